-- Version 2: what the city has, and what may therefore be forgotten.

-- The newest of the city's signed words: entries up to `seq` are stored there durably. No row: it has not spoken yet.
CREATE TABLE acknowledged (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    seq       INTEGER NOT NULL,
    hash      BLOB NOT NULL,
    issued_ms INTEGER NOT NULL
) STRICT;

-- Entries that the city has set aside, and why. They count as stored there.
CREATE TABLE rejected (
    seq  INTEGER PRIMARY KEY,
    code TEXT NOT NULL
) STRICT;

-- Where the chain begins now: entries up to `seq` were forgotten here, after the city had signed for them. No row: none was.
CREATE TABLE cut (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- Forgotten entries that are still asked for: unresolved debits, and the last of each kind without a rider.
CREATE TABLE kept (
    seq   INTEGER PRIMARY KEY,
    kind  INTEGER NOT NULL,
    rider BLOB,
    data  BLOB NOT NULL
) STRICT;

-- What the shift's riders did by the ledger before this one, so that a new epoch in the middle of a trip takes nobody's points twice.
CREATE TABLE carried (
    number INTEGER PRIMARY KEY,
    rider  BLOB NOT NULL,
    kind   INTEGER NOT NULL,
    data   BLOB NOT NULL
) STRICT;
CREATE INDEX carried_of_rider ON carried (rider);
