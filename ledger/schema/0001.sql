-- Version 1. A ledger only ever gets further files like this one; the tables below are never changed by another program than ledger.store.

-- Whose ledger this is. The second copy of the epoch lies in the file NAME.memory.
CREATE TABLE identity (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    device INTEGER NOT NULL,
    epoch  INTEGER NOT NULL
) STRICT;

-- The chain. `data` is what counts (ledger.codec); `rider` and `kind` are search keys taken from it, and `kazashi ledger verify` compares them.
CREATE TABLE entry (
    seq   INTEGER PRIMARY KEY,
    kind  INTEGER NOT NULL,
    rider BLOB,
    data  BLOB NOT NULL,
    hash  BLOB NOT NULL
) STRICT;
CREATE INDEX entry_of_rider ON entry (rider, kind);

-- Debits whose outcome is open: at most one a rider, outside the chain because most of them live for 20 ms.
CREATE TABLE intent (
    rider BLOB PRIMARY KEY,
    data  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Grants whose signature was verified: the next touch need not read the four blocks again.
CREATE TABLE verified_grant (
    rider  BLOB PRIMARY KEY,
    digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Takes the first commit after each restart of the log, which costs one flush more than the others; so no tap does.
CREATE TABLE primer (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO primer VALUES (1, 0);

-- Filled once and emptied, to grow the log and the database before the first tap.
CREATE TABLE room (
    data BLOB NOT NULL
) STRICT;
