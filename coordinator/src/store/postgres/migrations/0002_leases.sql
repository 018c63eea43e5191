-- Grants and commits: the two changes that happen for every shard. Each is one call of a function,
-- so one round trip and one transaction.
--
-- Every statement of these functions sees what was committed before it began (READ COMMITTED,
-- volatile functions). That is what the order of locks counts on: take the lock, and only then
-- look at what it guards. A single statement that waits for a row would go on with a stale view
-- of every other table, such as a lease that ended meanwhile.
--
-- Order of locks: session, job, shard, leases, counters.

-- The clock that decides expiry. Tests hand in their own time instead.
CREATE FUNCTION quire_now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- Whoever counts on the state of a job takes this lock shared until its transaction ends; whoever
-- moves the job takes it alone. No row lock: a thousand shared row locks a second would each
-- write the row's page.
CREATE FUNCTION quire_job_lock(p_job text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended('quire job ' || p_job, 0)
$$;

-- The slot of job_counters and failures that a shard counts in.
CREATE FUNCTION quire_slot(p_shard bigint) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT (p_shard % 16)::smallint
$$;

-- The node of a session that may take a shard of the job now; else the refusal.
CREATE FUNCTION quire_may_take(
    p_session text, p_job text, p_now bigint, OUT node text, OUT refusal text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_node text;
BEGIN
    -- The session cannot be closed before this transaction ends; heartbeats pass.
    SELECT s.node INTO v_node FROM sessions s
        WHERE s.session_id = p_session AND s.state = 'live' AND NOT s.unhealthy
        AND s.expires_at_ms > p_now
        FOR KEY SHARE;
    IF NOT FOUND THEN
        refusal := 'no session';
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(quire_job_lock(p_job));
    PERFORM FROM jobs WHERE job_id = p_job AND state = 'running';
    IF NOT FOUND THEN
        refusal := 'nothing';
        RETURN;
    END IF;
    PERFORM FROM nodes n WHERE n.node = v_node AND n.standing <> 'open';
    IF FOUND THEN
        refusal := 'nothing';
        RETURN;
    END IF;
    node := v_node;
END
$$;

-- Gives the first waiting shard of a job to a session.
CREATE FUNCTION quire_grant(p_session text, p_job text, p_lease text, p_now bigint)
RETURNS TABLE (refusal text, taken shards) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := coalesce(p_now, quire_now_ms());
    v_node text;
    v_refusal text;
    v_taken shards;
BEGIN
    SELECT m.node, m.refusal INTO v_node, v_refusal
        FROM quire_may_take(p_session, p_job, v_now) m;
    IF v_refusal IS NOT NULL THEN
        RETURN QUERY SELECT v_refusal, NULL::shards;
        RETURN;
    END IF;
    UPDATE shards SET state = 'leased', epoch = epoch + 1
        WHERE job_id = p_job AND shard_idx = (
            SELECT shard_idx FROM shards
            WHERE job_id = p_job AND state = 'pending' AND not_before_ms <= v_now
            ORDER BY qkey LIMIT 1
            FOR UPDATE SKIP LOCKED
        )
        RETURNING * INTO v_taken;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'nothing'::text, NULL::shards;
        RETURN;
    END IF;
    INSERT INTO leases (lease_id, session_id, node, job_id, shard_idx, epoch, granted_at_ms,
            stage, progressed_at_ms)
        VALUES (p_lease, p_session, v_node, p_job, v_taken.shard_idx, v_taken.epoch, v_now,
            'queued', v_now);
    UPDATE job_counters SET pending = pending - 1, leased = leased + 1
        WHERE job_id = p_job AND slot = quire_slot(v_taken.shard_idx);
    RETURN QUERY SELECT NULL::text, v_taken;
END
$$;

-- Gives a second copy of a leased shard to a session on another node.
CREATE FUNCTION quire_grant_copy(
    p_session text, p_job text, p_shard bigint, p_lease text, p_now bigint
) RETURNS TABLE (refusal text, taken shards) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := coalesce(p_now, quire_now_ms());
    v_node text;
    v_refusal text;
    v_taken shards;
BEGIN
    SELECT m.node, m.refusal INTO v_node, v_refusal
        FROM quire_may_take(p_session, p_job, v_now) m;
    IF v_refusal IS NOT NULL THEN
        RETURN QUERY SELECT v_refusal, NULL::shards;
        RETURN;
    END IF;
    PERFORM FROM shards WHERE job_id = p_job AND shard_idx = p_shard FOR UPDATE;
    UPDATE shards SET epoch = epoch + 1
        WHERE job_id = p_job AND shard_idx = p_shard AND state = 'leased'
        AND (SELECT count(*) = 1 AND bool_and(l.node <> v_node) FROM leases l
            WHERE l.job_id = p_job AND l.shard_idx = p_shard)
        RETURNING * INTO v_taken;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'nothing'::text, NULL::shards;
        RETURN;
    END IF;
    INSERT INTO leases (lease_id, session_id, node, job_id, shard_idx, epoch, granted_at_ms,
            stage, progressed_at_ms)
        VALUES (p_lease, p_session, v_node, p_job, p_shard, v_taken.epoch, v_now, 'queued', v_now);
    RETURN QUERY SELECT NULL::text, v_taken;
END
$$;

-- Accepts a part if its lease is live and the job takes commits. Answers `committed`, `already`,
-- `fenced`, or the state of a job that takes none. The codes of failures are distinct.
CREATE FUNCTION quire_commit(
    p_lease text, p_key text, p_bytes bigint, p_sha256 text, p_etag text,
    p_ok integer, p_failed integer, p_skipped integer, p_ms_per_row double precision,
    p_pace_ring bigint, p_codes text[], p_counts bigint[], p_examples text[], p_now bigint
) RETURNS text LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := coalesce(p_now, quire_now_ms());
    v_lease leases;
    v_state text;
BEGIN
    SELECT * INTO v_lease FROM leases WHERE lease_id = p_lease;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock_shared(quire_job_lock(v_lease.job_id));
        -- Every change of a shard and its leases takes this row first: what follows sees a lease
        -- that ended meanwhile as ended.
        PERFORM FROM shards WHERE job_id = v_lease.job_id AND shard_idx = v_lease.shard_idx
            FOR UPDATE;
        SELECT state INTO v_state FROM jobs WHERE job_id = v_lease.job_id;
        IF v_state NOT IN ('running', 'paused') THEN
            PERFORM FROM leases WHERE lease_id = p_lease;
            IF FOUND THEN
                RETURN v_state;
            END IF;
        ELSE
            -- The live check stands in the statement itself.
            UPDATE shards SET state = 'committed', part_key = p_key, part_bytes = p_bytes,
                    part_sha256 = p_sha256, part_etag = p_etag, rows_ok = p_ok,
                    rows_failed = p_failed, rows_skipped = p_skipped, winner = p_lease,
                    winner_node = v_lease.node
                WHERE job_id = v_lease.job_id AND shard_idx = v_lease.shard_idx
                AND state = 'leased'
                AND EXISTS (SELECT FROM leases WHERE lease_id = p_lease);
            IF FOUND THEN
                DELETE FROM leases
                    WHERE job_id = v_lease.job_id AND shard_idx = v_lease.shard_idx;
                UPDATE job_counters SET leased = leased - 1, committed = committed + 1,
                        rows_ok = rows_ok + p_ok, rows_failed = rows_failed + p_failed,
                        rows_skipped = rows_skipped + p_skipped
                    WHERE job_id = v_lease.job_id AND slot = quire_slot(v_lease.shard_idx);
                IF cardinality(p_codes) > 0 THEN
                    INSERT INTO failures AS f (job_id, code, slot, count, example, noted_at_ms)
                        SELECT v_lease.job_id, said.code, quire_slot(v_lease.shard_idx),
                            said.count, said.example, v_now
                        FROM unnest(p_codes, p_counts, p_examples) AS said (code, count, example)
                        -- One order for all, so that two commits never wait for each other.
                        ORDER BY said.code
                        ON CONFLICT (job_id, code, slot)
                        DO UPDATE SET count = f.count + excluded.count;
                END IF;
                IF p_ms_per_row IS NOT NULL THEN
                    INSERT INTO paces (job_id, slot, ms_per_row, at_ms)
                        VALUES (v_lease.job_id, v_lease.shard_idx % p_pace_ring, p_ms_per_row,
                            v_now)
                        ON CONFLICT (job_id, slot) DO UPDATE
                        SET ms_per_row = excluded.ms_per_row, at_ms = excluded.at_ms;
                END IF;
                RETURN 'committed';
            END IF;
        END IF;
    END IF;
    -- Not live: an earlier call with this lease had done it, or something else ended it.
    PERFORM FROM shards WHERE winner = p_lease;
    IF FOUND THEN
        RETURN 'already';
    END IF;
    RETURN 'fenced';
END
$$;
