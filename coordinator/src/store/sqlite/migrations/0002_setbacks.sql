-- Shards that killed workers go behind the others: their deaths, and those of the shards they
-- were cut from, stand above the position in `qkey`.
ALTER TABLE shards ADD COLUMN setbacks INTEGER NOT NULL DEFAULT 0;
