"""The newest schema as plain statements, made from the migrations: do not edit.

Written by ``python -m mlstead.records.sql.upgrade``; a test holds both equal.
"""

HEAD = "0001"
REVISIONS = ("0001",)

SQLITE = """\
CREATE TABLE mlstead_schema (
version_num VARCHAR(32) NOT NULL,
CONSTRAINT mlstead_schema_pkc PRIMARY KEY (version_num)
);
CREATE TABLE runs (
number INTEGER NOT NULL,
id TEXT NOT NULL,
token TEXT,
project TEXT DEFAULT '' NOT NULL,
kind TEXT DEFAULT '' NOT NULL,
name TEXT DEFAULT '' NOT NULL,
engine TEXT DEFAULT '' NOT NULL,
state TEXT DEFAULT '' NOT NULL,
parent TEXT DEFAULT '' NOT NULL,
"key" TEXT DEFAULT '' NOT NULL,
spec TEXT DEFAULT '{}' NOT NULL,
request TEXT DEFAULT '{}' NOT NULL,
params TEXT DEFAULT '{}' NOT NULL,
labels TEXT DEFAULT '{}' NOT NULL,
"values" TEXT DEFAULT '{}' NOT NULL,
extra TEXT DEFAULT '{}' NOT NULL,
status TEXT DEFAULT '{}' NOT NULL,
created REAL DEFAULT '0' NOT NULL,
started REAL,
ended REAL,
reason TEXT DEFAULT '' NOT NULL,
detail TEXT DEFAULT '' NOT NULL,
cached TEXT DEFAULT '' NOT NULL,
code TEXT DEFAULT '' NOT NULL,
environment TEXT DEFAULT '' NOT NULL,
mlflow TEXT DEFAULT '' NOT NULL,
attempt INTEGER DEFAULT '0' NOT NULL,
stop INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (number),
UNIQUE (id),
UNIQUE (token)
);
CREATE INDEX runs_by_parent ON runs (parent, number, state);
CREATE INDEX runs_by_project ON runs (project, parent, number);
CREATE INDEX runs_by_kind ON runs (kind, parent, number);
CREATE INDEX runs_by_name ON runs (name, parent, number);
CREATE INDEX runs_by_state ON runs (state, parent, number);
CREATE INDEX runs_by_code ON runs (code);
CREATE TABLE events (
number INTEGER NOT NULL,
run_id TEXT NOT NULL,
attempt INTEGER DEFAULT '0' NOT NULL,
name TEXT NOT NULL,
time REAL DEFAULT '0' NOT NULL,
data TEXT DEFAULT '{}' NOT NULL,
PRIMARY KEY (number),
UNIQUE (run_id, attempt, name),
FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE TABLE series (
id INTEGER NOT NULL,
run_id TEXT NOT NULL,
"key" TEXT NOT NULL,
rank INTEGER DEFAULT '0' NOT NULL,
count INTEGER DEFAULT '0' NOT NULL,
last_number INTEGER DEFAULT '0' NOT NULL,
last_step INTEGER DEFAULT '0' NOT NULL,
min_number INTEGER,
min_value REAL,
max_number INTEGER,
max_value REAL,
PRIMARY KEY (id),
UNIQUE (run_id, "key", rank),
FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE TABLE points (
number INTEGER NOT NULL,
series INTEGER DEFAULT '0' NOT NULL,
step INTEGER DEFAULT '0' NOT NULL,
value REAL,
time REAL DEFAULT '0' NOT NULL,
attempt INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (number)
);
CREATE INDEX points_by_series ON points (series, number);
CREATE TABLE versions (
project TEXT NOT NULL,
kind TEXT NOT NULL,
name TEXT NOT NULL,
number INTEGER NOT NULL,
digest TEXT DEFAULT '' NOT NULL,
run_id TEXT DEFAULT '' NOT NULL,
output TEXT DEFAULT '' NOT NULL,
source TEXT DEFAULT '' NOT NULL,
size INTEGER DEFAULT '0' NOT NULL,
files INTEGER DEFAULT '0' NOT NULL,
created REAL DEFAULT '0' NOT NULL,
meta TEXT DEFAULT '{}' NOT NULL,
PRIMARY KEY (project, kind, name, number)
);
CREATE INDEX versions_by_digest ON versions (digest);
CREATE TABLE version_names (
project TEXT NOT NULL,
kind TEXT NOT NULL,
name TEXT NOT NULL,
last INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (project, kind, name)
);
CREATE TABLE aliases (
project TEXT NOT NULL,
kind TEXT NOT NULL,
name TEXT NOT NULL,
alias TEXT NOT NULL,
number INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (project, kind, name, alias)
);
CREATE TABLE links (
run_id TEXT NOT NULL,
direction TEXT NOT NULL,
slot TEXT NOT NULL,
kind TEXT DEFAULT '' NOT NULL,
digest TEXT DEFAULT '' NOT NULL,
ref TEXT DEFAULT '' NOT NULL,
partial INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (run_id, direction, slot),
FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE INDEX links_by_digest ON links (digest);
CREATE TABLE cache (
"key" TEXT NOT NULL,
run_id TEXT DEFAULT '' NOT NULL,
created REAL DEFAULT '0' NOT NULL,
PRIMARY KEY ("key")
);
CREATE TABLE counters (
name TEXT NOT NULL,
value INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (name)
);
INSERT INTO counters (name, value) VALUES ('runs', 0), ('points', 0);
CREATE TABLE cursors (
name TEXT NOT NULL,
value TEXT DEFAULT '' NOT NULL,
PRIMARY KEY (name)
);
CREATE TABLE leases (
run_id TEXT NOT NULL,
holder TEXT DEFAULT '' NOT NULL,
fence INTEGER DEFAULT '0' NOT NULL,
taken REAL DEFAULT '0' NOT NULL,
expires REAL DEFAULT '0' NOT NULL,
PRIMARY KEY (run_id)
);
CREATE TABLE outgoing (
id TEXT NOT NULL,
run_id TEXT DEFAULT '' NOT NULL,
"to" TEXT DEFAULT '' NOT NULL,
text TEXT DEFAULT '' NOT NULL,
state TEXT DEFAULT '' NOT NULL,
error TEXT DEFAULT '' NOT NULL,
created REAL DEFAULT '0' NOT NULL,
tries INTEGER DEFAULT '0' NOT NULL,
next_try REAL DEFAULT '0' NOT NULL,
PRIMARY KEY (id)
);
CREATE INDEX outgoing_by_state ON outgoing (state, next_try);
INSERT INTO mlstead_schema (version_num) VALUES ('0001')
"""

POSTGRESQL = """\
CREATE TABLE mlstead_schema (
version_num VARCHAR(32) NOT NULL,
CONSTRAINT mlstead_schema_pkc PRIMARY KEY (version_num)
);
CREATE TABLE runs (
number BIGINT NOT NULL,
id TEXT COLLATE "C" NOT NULL,
token TEXT COLLATE "C",
project TEXT COLLATE "C" DEFAULT '' NOT NULL,
kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
name TEXT COLLATE "C" DEFAULT '' NOT NULL,
engine TEXT COLLATE "C" DEFAULT '' NOT NULL,
state TEXT COLLATE "C" DEFAULT '' NOT NULL,
parent TEXT COLLATE "C" DEFAULT '' NOT NULL,
key TEXT COLLATE "C" DEFAULT '' NOT NULL,
spec TEXT DEFAULT '{}' NOT NULL,
request TEXT DEFAULT '{}' NOT NULL,
params TEXT DEFAULT '{}' NOT NULL,
labels TEXT DEFAULT '{}' NOT NULL,
values TEXT DEFAULT '{}' NOT NULL,
extra TEXT DEFAULT '{}' NOT NULL,
status TEXT DEFAULT '{}' NOT NULL,
created FLOAT(53) DEFAULT '0' NOT NULL,
started FLOAT(53),
ended FLOAT(53),
reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
detail TEXT COLLATE "C" DEFAULT '' NOT NULL,
cached TEXT COLLATE "C" DEFAULT '' NOT NULL,
code TEXT COLLATE "C" DEFAULT '' NOT NULL,
environment TEXT COLLATE "C" DEFAULT '' NOT NULL,
mlflow TEXT COLLATE "C" DEFAULT '' NOT NULL,
attempt BIGINT DEFAULT '0' NOT NULL,
stop BIGINT DEFAULT '0' NOT NULL,
PRIMARY KEY (number),
UNIQUE (id),
UNIQUE (token)
);
CREATE INDEX runs_by_parent ON runs (parent, number, state);
CREATE INDEX runs_by_project ON runs (project, parent, number);
CREATE INDEX runs_by_kind ON runs (kind, parent, number);
CREATE INDEX runs_by_name ON runs (name, parent, number);
CREATE INDEX runs_by_state ON runs (state, parent, number);
CREATE INDEX runs_by_code ON runs (code);
CREATE TABLE events (
number BIGINT GENERATED BY DEFAULT AS IDENTITY,
run_id TEXT COLLATE "C" NOT NULL,
attempt BIGINT DEFAULT '0' NOT NULL,
name TEXT COLLATE "C" NOT NULL,
time FLOAT(53) DEFAULT '0' NOT NULL,
data TEXT DEFAULT '{}' NOT NULL,
PRIMARY KEY (number),
UNIQUE (run_id, attempt, name),
FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE TABLE series (
id BIGINT GENERATED BY DEFAULT AS IDENTITY,
run_id TEXT COLLATE "C" NOT NULL,
key TEXT COLLATE "C" NOT NULL,
rank BIGINT DEFAULT '0' NOT NULL,
count BIGINT DEFAULT '0' NOT NULL,
last_number BIGINT DEFAULT '0' NOT NULL,
last_step BIGINT DEFAULT '0' NOT NULL,
min_number BIGINT,
min_value FLOAT(53),
max_number BIGINT,
max_value FLOAT(53),
PRIMARY KEY (id),
UNIQUE (run_id, key, rank),
FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE TABLE points (
number BIGINT NOT NULL,
series BIGINT DEFAULT '0' NOT NULL,
step BIGINT DEFAULT '0' NOT NULL,
value FLOAT(53),
time FLOAT(53) DEFAULT '0' NOT NULL,
attempt BIGINT DEFAULT '0' NOT NULL,
PRIMARY KEY (number)
);
CREATE INDEX points_by_series ON points (series, number);
CREATE TABLE versions (
project TEXT COLLATE "C" NOT NULL,
kind TEXT COLLATE "C" NOT NULL,
name TEXT COLLATE "C" NOT NULL,
number BIGINT NOT NULL,
digest TEXT COLLATE "C" DEFAULT '' NOT NULL,
run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
output TEXT COLLATE "C" DEFAULT '' NOT NULL,
source TEXT COLLATE "C" DEFAULT '' NOT NULL,
size BIGINT DEFAULT '0' NOT NULL,
files BIGINT DEFAULT '0' NOT NULL,
created FLOAT(53) DEFAULT '0' NOT NULL,
meta TEXT DEFAULT '{}' NOT NULL,
PRIMARY KEY (project, kind, name, number)
);
CREATE INDEX versions_by_digest ON versions (digest);
CREATE TABLE version_names (
project TEXT COLLATE "C" NOT NULL,
kind TEXT COLLATE "C" NOT NULL,
name TEXT COLLATE "C" NOT NULL,
last BIGINT DEFAULT '0' NOT NULL,
PRIMARY KEY (project, kind, name)
);
CREATE TABLE aliases (
project TEXT COLLATE "C" NOT NULL,
kind TEXT COLLATE "C" NOT NULL,
name TEXT COLLATE "C" NOT NULL,
alias TEXT COLLATE "C" NOT NULL,
number BIGINT DEFAULT '0' NOT NULL,
PRIMARY KEY (project, kind, name, alias)
);
CREATE TABLE links (
run_id TEXT COLLATE "C" NOT NULL,
direction TEXT COLLATE "C" NOT NULL,
slot TEXT COLLATE "C" NOT NULL,
kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
digest TEXT COLLATE "C" DEFAULT '' NOT NULL,
ref TEXT COLLATE "C" DEFAULT '' NOT NULL,
partial BIGINT DEFAULT '0' NOT NULL,
PRIMARY KEY (run_id, direction, slot),
FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE INDEX links_by_digest ON links (digest);
CREATE TABLE cache (
key TEXT COLLATE "C" NOT NULL,
run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
created FLOAT(53) DEFAULT '0' NOT NULL,
PRIMARY KEY (key)
);
CREATE TABLE counters (
name TEXT COLLATE "C" NOT NULL,
value BIGINT DEFAULT '0' NOT NULL,
PRIMARY KEY (name)
);
INSERT INTO counters (name, value) VALUES ('runs', 0), ('points', 0);
CREATE TABLE cursors (
name TEXT COLLATE "C" NOT NULL,
value TEXT COLLATE "C" DEFAULT '' NOT NULL,
PRIMARY KEY (name)
);
CREATE TABLE leases (
run_id TEXT COLLATE "C" NOT NULL,
holder TEXT COLLATE "C" DEFAULT '' NOT NULL,
fence BIGINT DEFAULT '0' NOT NULL,
taken FLOAT(53) DEFAULT '0' NOT NULL,
expires FLOAT(53) DEFAULT '0' NOT NULL,
PRIMARY KEY (run_id)
);
CREATE TABLE outgoing (
id TEXT COLLATE "C" NOT NULL,
run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
"to" TEXT COLLATE "C" DEFAULT '' NOT NULL,
text TEXT COLLATE "C" DEFAULT '' NOT NULL,
state TEXT COLLATE "C" DEFAULT '' NOT NULL,
error TEXT COLLATE "C" DEFAULT '' NOT NULL,
created FLOAT(53) DEFAULT '0' NOT NULL,
tries BIGINT DEFAULT '0' NOT NULL,
next_try FLOAT(53) DEFAULT '0' NOT NULL,
PRIMARY KEY (id)
);
CREATE INDEX outgoing_by_state ON outgoing (state, next_try);
INSERT INTO mlstead_schema (version_num) VALUES ('0001')
"""
