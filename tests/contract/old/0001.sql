BEGIN TRANSACTION;
CREATE TABLE aliases (
project TEXT NOT NULL,
kind TEXT NOT NULL,
name TEXT NOT NULL,
alias TEXT NOT NULL,
number INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (project, kind, name, alias)
);
INSERT INTO "aliases" VALUES('p','model','fashion','production',2);
CREATE TABLE cache (
"key" TEXT NOT NULL,
run_id TEXT DEFAULT '' NOT NULL,
created REAL DEFAULT '0' NOT NULL,
PRIMARY KEY ("key")
);
INSERT INTO "cache" VALUES('key','train-aaaa1111',3.0);
CREATE TABLE counters (
name TEXT NOT NULL,
value INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (name)
);
INSERT INTO "counters" VALUES('runs',1);
INSERT INTO "counters" VALUES('points',3);
CREATE TABLE cursors (
name TEXT NOT NULL,
value TEXT DEFAULT '' NOT NULL,
PRIMARY KEY (name)
);
INSERT INTO "cursors" VALUES('engine','7');
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
INSERT INTO "events" VALUES(1,'train-aaaa1111',0,'queued',1.0,'{}');
INSERT INTO "events" VALUES(2,'train-aaaa1111',1,'succeeded',3.0,'{"code": 0}');
CREATE TABLE leases (
run_id TEXT NOT NULL,
holder TEXT DEFAULT '' NOT NULL,
fence INTEGER DEFAULT '0' NOT NULL,
taken REAL DEFAULT '0' NOT NULL,
expires REAL DEFAULT '0' NOT NULL,
PRIMARY KEY (run_id)
);
INSERT INTO "leases" VALUES('train-aaaa1111','old',1,1.79531969285101890556e+09,1.79531969285201883313e+09);
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
INSERT INTO "links" VALUES('train-aaaa1111','input','faces','data','d0','faces@1',0);
INSERT INTO "links" VALUES('train-aaaa1111','output','model','model','d2','fashion@2',0);
CREATE TABLE mlstead_schema (
version_num VARCHAR(32) NOT NULL,
CONSTRAINT mlstead_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "mlstead_schema" VALUES('0001');
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
INSERT INTO "outgoing" VALUES('o1','train-aaaa1111','slack','train succeeded','waiting','',3.0,0,0.0);
CREATE TABLE points (
number INTEGER NOT NULL,
series INTEGER DEFAULT '0' NOT NULL,
step INTEGER DEFAULT '0' NOT NULL,
value REAL,
time REAL DEFAULT '0' NOT NULL,
attempt INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (number)
);
INSERT INTO "points" VALUES(1,1,1,0.5,2.0,1);
INSERT INTO "points" VALUES(2,1,2,0.25,3.0,1);
INSERT INTO "points" VALUES(3,1,3,NULL,4.0,1);
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
INSERT INTO "runs" VALUES(1,'train-aaaa1111','t1','p','job','train','local','succeeded','','','{"command": "python train.py"}','{}','{"lr": 0.1}','{"team": "a"}','{}','{}','{}',1.0,2.0,3.0,'','','','','','',0,0);
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
INSERT INTO "series" VALUES(1,'train-aaaa1111','loss',0,3,3,3,2,0.25,1,0.5);
CREATE TABLE version_names (
project TEXT NOT NULL,
kind TEXT NOT NULL,
name TEXT NOT NULL,
last INTEGER DEFAULT '0' NOT NULL,
PRIMARY KEY (project, kind, name)
);
INSERT INTO "version_names" VALUES('p','model','fashion',3);
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
INSERT INTO "versions" VALUES('p','model','fashion',1,'d1','train-aaaa1111','model','',10,1,3.0,'{"classes": 10}');
INSERT INTO "versions" VALUES('p','model','fashion',2,'d2','train-aaaa1111','model','',10,1,3.0,'{"classes": 10}');
CREATE INDEX runs_by_parent ON runs (parent, number, state);
CREATE INDEX runs_by_project ON runs (project, parent, number);
CREATE INDEX runs_by_kind ON runs (kind, parent, number);
CREATE INDEX runs_by_name ON runs (name, parent, number);
CREATE INDEX runs_by_state ON runs (state, parent, number);
CREATE INDEX runs_by_code ON runs (code);
CREATE INDEX points_by_series ON points (series, number);
CREATE INDEX versions_by_digest ON versions (digest);
CREATE INDEX links_by_digest ON links (digest);
CREATE INDEX outgoing_by_state ON outgoing (state, next_try);
COMMIT;
