-- What a fleet adds: tenants, nodes, duties, paces, and who brought a part.

ALTER TABLE jobs ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
-- Rows of the job that its tenant was charged for.
ALTER TABLE jobs ADD COLUMN accounted_rows INTEGER NOT NULL DEFAULT 0;

ALTER TABLE sessions ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN devices_json TEXT NOT NULL DEFAULT '[]';
ALTER TABLE sessions ADD COLUMN unhealthy INTEGER NOT NULL DEFAULT 0;

-- The node whose part was accepted; unknown where a manifest brought it.
ALTER TABLE shards ADD COLUMN winner_node TEXT;

CREATE INDEX attempts_deaths ON attempts (ended_at_ms) WHERE charged = 1;

CREATE TABLE tenants (
    tenant TEXT PRIMARY KEY,
    weight REAL NOT NULL,
    used_rows REAL NOT NULL,
    accounted_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO tenants (tenant, weight, used_rows, accounted_at_ms)
    SELECT DISTINCT tenant, 1.0, 0.0, 0 FROM jobs;

-- Nodes that are not open, or were not once.
CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    standing TEXT NOT NULL,
    reason TEXT NOT NULL,
    is_automatic INTEGER NOT NULL,
    since_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Milliseconds a row took, in a ring by shard.
CREATE TABLE paces (
    job_id TEXT NOT NULL,
    slot INTEGER NOT NULL,
    ms_per_row REAL NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (job_id, slot)
) WITHOUT ROWID;

-- What one coordinator does at a time.
CREATE TABLE duties (
    duty TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
