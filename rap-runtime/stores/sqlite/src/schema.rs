//! The tables, and how they came to be: a list of migrations, forward only.
//!
//! What changes often stands apart from what is large: SQLite rewrites a row whole, so a flag beside a
//! toolset would cost the toolset each time. Threads, sessions and calls are numbered, so that what belongs
//! to them needs no long names; histories are clustered by thread.

use crate::fault::Done;
use rusqlite::Connection;

/// Marks a file as one of ours: `RAP1`.
pub(crate) const APPLICATION: i32 = 0x5241_5031;

/// The format that this program writes: how many migrations there are.
pub(crate) const FORMAT: i64 = MIGRATIONS.len() as i64;

/// Each migration leads from the format of its index to the next one. None is ever changed.
const MIGRATIONS: &[&str] = &[FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH, EIGHTH, NINTH];

const FIRST: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 0);

CREATE TABLE named_values (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE sessions (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT,
    created_at INTEGER NOT NULL,
    completions INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE settings (
    session INTEGER PRIMARY KEY,
    user TEXT,
    model TEXT,
    system TEXT NOT NULL,
    toolbox TEXT NOT NULL,
    rules TEXT NOT NULL
);

-- What changes with every slice.
CREATE TABLE threads (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session INTEGER NOT NULL,
    parent INTEGER,
    version INTEGER NOT NULL,
    next_entry INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    model_owed INTEGER NOT NULL,
    turn_at INTEGER,
    reported INTEGER NOT NULL,
    last_record TEXT NOT NULL,
    -- Unconsumed inputs.
    inbox INTEGER NOT NULL DEFAULT 0,
    -- When it is due; a pause keeps it for later.
    due_at INTEGER,
    -- When a person made it due despite a pause.
    woken_at INTEGER,
    ready_at INTEGER GENERATED ALWAYS AS
        (CASE WHEN closed THEN NULL WHEN paused THEN woken_at ELSE due_at END) VIRTUAL
);
CREATE INDEX threads_ready ON threads (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX threads_open ON threads (session) WHERE closed = 0;
CREATE INDEX threads_session ON threads (session);
CREATE INDEX threads_parent ON threads (parent, closed) WHERE parent IS NOT NULL;

-- What never changes.
CREATE TABLE lineages (
    thread INTEGER PRIMARY KEY,
    ancestors TEXT NOT NULL,
    chain TEXT NOT NULL,
    kind TEXT NOT NULL,
    event INTEGER NOT NULL,
    created_at INTEGER NOT NULL
);

-- `at` is the thread's number times 2^32 plus the entry's: a history lies together.
CREATE TABLE entries (at INTEGER PRIMARY KEY, body TEXT NOT NULL);

-- Kept after consumption: the dedupe key, and what a replay is fed with.
CREATE TABLE inputs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    thread INTEGER NOT NULL,
    id TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    source TEXT NOT NULL,
    traceparent TEXT,
    body TEXT NOT NULL,
    UNIQUE (thread, id)
);
-- The unconsumed ones.
CREATE TABLE inbox (
    thread INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    call TEXT,
    -- 1: an event; 2: the last one of its subscription.
    event INTEGER NOT NULL,
    person INTEGER NOT NULL,
    PRIMARY KEY (thread, seq)
) WITHOUT ROWID;

CREATE TABLE calls (
    n INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    id TEXT NOT NULL,
    turn INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    name TEXT NOT NULL,
    route TEXT NOT NULL,
    state TEXT NOT NULL,
    long_running INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    due_at INTEGER,
    outcome_accepted INTEGER NOT NULL DEFAULT 0,
    -- A final event is in the inbox.
    final_accepted INTEGER NOT NULL DEFAULT 0,
    -- An invocation was put into the outbox and not withdrawn.
    invoked INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    traceparent TEXT,
    arguments TEXT NOT NULL,
    outcome TEXT,
    UNIQUE (thread, id)
);
CREATE INDEX calls_turn ON calls (thread, turn);
CREATE INDEX calls_open ON calls (thread) WHERE state IN ('awaiting_approval', 'pending', 'detached');
CREATE INDEX calls_lost ON calls (thread) WHERE state = 'presumed_lost';

CREATE TABLE subscriptions (
    thread INTEGER NOT NULL,
    call TEXT NOT NULL,
    name TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (thread, call)
) WITHOUT ROWID;
CREATE INDEX subscriptions_active ON subscriptions (thread) WHERE state = 'active';

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    thread INTEGER NOT NULL,
    call TEXT,
    due_at INTEGER NOT NULL,
    -- The owner that wrote it: a later one cannot know whether it was sent.
    epoch INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    first_attempt INTEGER,
    route TEXT NOT NULL,
    traceparent TEXT,
    url TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX outbox_due ON outbox (due_at, id);
CREATE INDEX outbox_thread ON outbox (thread, call);

CREATE TABLE views (
    n INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    view_type TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (thread, view_type)
);
-- Gone with the end of their call.
CREATE TABLE questions (
    n INTEGER PRIMARY KEY,
    call TEXT NOT NULL,
    thread INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (call, thread)
);

CREATE TABLE dead_letters (
    n INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    thread TEXT NOT NULL,
    what TEXT NOT NULL,
    reason TEXT NOT NULL,
    body TEXT NOT NULL
);

CREATE TABLE surface (
    n INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX surface_session ON surface (session, n);

CREATE TABLE slices (
    thread INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (thread, version)
) WITHOUT ROWID;
";

/// What waits for a time or for room, what was seen, what was begun.
const SECOND: &str = "
ALTER TABLE threads ADD COLUMN retry_at INTEGER;
-- Events wait until fewer than so many threads of the session are open.
ALTER TABLE threads ADD COLUMN room INTEGER;
-- The newest input that a slice has seen.
ALTER TABLE threads ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
CREATE INDEX threads_room ON threads (session) WHERE room IS NOT NULL;

-- A try was made, or may have been.
ALTER TABLE outbox ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;

CREATE INDEX dead_letters_thread ON dead_letters (thread, n);
";

/// Calls that a person must allow, and summaries of histories.
const THIRD: &str = "
CREATE INDEX calls_awaiting ON calls (id) WHERE state = 'awaiting_approval';

ALTER TABLE threads ADD COLUMN compaction TEXT NOT NULL DEFAULT 'idle';
CREATE INDEX threads_compaction ON threads (n) WHERE compaction IN ('asked', 'needed');
-- Where the summaries lie, and the position that each covers.
CREATE TABLE summaries (
    thread INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    covers_thread INTEGER NOT NULL,
    covers INTEGER NOT NULL,
    PRIMARY KEY (thread, entry)
) WITHOUT ROWID;
";

/// The model that was chosen for a thread after its session began.
const FOURTH: &str = "
ALTER TABLE threads ADD COLUMN model TEXT;
";

/// Old entries put together, and a digest that spares reading all of them.
const FIFTH: &str = "
-- Entries before this one lie in segments.
ALTER TABLE threads ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
-- The digest of what the model is shown, where it is known.
ALTER TABLE threads ADD COLUMN shown BLOB;
-- `at` is that of the first entry; the body has a line for each.
CREATE TABLE segments (
    at INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body TEXT NOT NULL
);
";

/// Large strings once, and entries that need not be parsed to be read.
const SIXTH: &str = "
-- Strings of over 64 KiB out of the JSON of other tables, as they stand there; in their place stands U+0001 and the hash
-- in hex.
CREATE TABLE bodies (n INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, body TEXT NOT NULL);
-- As those of a segment; none where an older version wrote the row.
ALTER TABLE entries ADD COLUMN flags INTEGER;
ALTER TABLE entries ADD COLUMN crc INTEGER;
";

/// What models have read and written since a person last wrote.
const SEVENTH: &str = "
ALTER TABLE sessions ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;
";

/// How much waits in an inbox, and which dead letters were once accepted.
const EIGHTH: &str = "
-- Of the input, as JSON. What older versions wrote counts as nothing.
ALTER TABLE inbox ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
-- Of its unconsumed inputs.
ALTER TABLE threads ADD COLUMN inbox_bytes INTEGER NOT NULL DEFAULT 0;

-- Nothing takes an accepted one away but a person.
ALTER TABLE dead_letters ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
DROP INDEX dead_letters_thread;
CREATE INDEX dead_letters_passing ON dead_letters (thread, n) WHERE accepted = 0;
";

/// How often a request was tried before it was given up.
const NINTH: &str = "
ALTER TABLE dead_letters ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
";

/// Brings a database to [`FORMAT`]. The caller has an open transaction.
pub(crate) fn migrate(conn: &Connection, found: i64) -> Done<()> {
    let done = usize::try_from(found).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(done) {
        conn.execute_batch(migration)?;
    }
    conn.pragma_update(None, "application_id", APPLICATION)?;
    conn.pragma_update(None, "user_version", FORMAT)?;
    Ok(())
}
