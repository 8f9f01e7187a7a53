BEGIN TRANSACTION;
CREATE TABLE champions (
	id INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	action VARCHAR DEFAULT 'promote' NOT NULL, 
	details TEXT DEFAULT '{}' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "champions" VALUES(1,1,'better','2026-11-26T11:57:11+00:00','promote','{}');
CREATE TABLE corrections (
	id VARCHAR NOT NULL, 
	annotation_id VARCHAR NOT NULL, 
	clip_id VARCHAR NOT NULL, 
	verdict VARCHAR NOT NULL, 
	text TEXT NOT NULL, 
	refiner VARCHAR NOT NULL, 
	reason TEXT NOT NULL, 
	seconds FLOAT NOT NULL, 
	payload TEXT DEFAULT '' NOT NULL, 
	at VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "corrections" VALUES('k1','a1c0','c0','edit','better','ann','',0.0,'','2026-01-02T00:00:00+00:00');
INSERT INTO "corrections" VALUES('k2','a1c4','c4','edit','later','ann','',0.0,'','2026-01-03T00:00:00+00:00');
CREATE TABLE exclusions (
	id VARCHAR NOT NULL, 
	refiner VARCHAR NOT NULL, 
	excluded BOOLEAN NOT NULL, 
	reason TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE exports (
	out TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	round INTEGER NOT NULL, 
	clips TEXT NOT NULL, 
	PRIMARY KEY (out)
);
INSERT INTO "exports" VALUES('/taken','2026-11-26T11:57:12+00:00',1,'["c0", "c1"]');
CREATE TABLE gold (
	id VARCHAR NOT NULL, 
	clip_id VARCHAR NOT NULL, 
	text TEXT NOT NULL, 
	"by" VARCHAR NOT NULL, 
	at VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE keys (
	kind VARCHAR NOT NULL, 
	"key" VARCHAR NOT NULL, 
	shard VARCHAR NOT NULL, 
	PRIMARY KEY (kind, "key")
);
INSERT INTO "keys" VALUES('clips','c0','clips/part-dfc3573351c44d5795982e3774935a6a.parquet');
INSERT INTO "keys" VALUES('clips','c1','clips/part-dfc3573351c44d5795982e3774935a6a.parquet');
INSERT INTO "keys" VALUES('clips','c2','clips/part-dded1d12dcd14b9c89f5e9a9a2a60dd7.parquet');
INSERT INTO "keys" VALUES('clips','c3','clips/part-dded1d12dcd14b9c89f5e9a9a2a60dd7.parquet');
INSERT INTO "keys" VALUES('clips','c4','clips/part-e638a44e483c4ce2a00fb7863af5235a.parquet');
INSERT INTO "keys" VALUES('clips','c5','clips/part-e638a44e483c4ce2a00fb7863af5235a.parquet');
INSERT INTO "keys" VALUES('annotations','a0c0','annotations/round=000/part-05c9dc7a27e746b5b4b0cd07638bf25b.parquet');
INSERT INTO "keys" VALUES('annotations','a0c1','annotations/round=000/part-dddae9ca2c1c4e49af587c383632d374.parquet');
INSERT INTO "keys" VALUES('annotations','a0c2','annotations/round=000/part-8678b89eced34c6d90e90dff29b66c0d.parquet');
INSERT INTO "keys" VALUES('annotations','a0c3','annotations/round=000/part-45f146264fe848d3bc24641a92abc287.parquet');
INSERT INTO "keys" VALUES('annotations','a0c4','annotations/round=000/part-a212ba1e8ec84f3bac43c99fd9383c76.parquet');
INSERT INTO "keys" VALUES('annotations','a0c5','annotations/round=000/part-3bd98e4ff474479b84cc9ca42fb4d994.parquet');
INSERT INTO "keys" VALUES('generations','g1c0','generations/part-34ebae93f4fc40ef871df44c489daecc.parquet');
INSERT INTO "keys" VALUES('generations','g1c1','generations/part-34ebae93f4fc40ef871df44c489daecc.parquet');
INSERT INTO "keys" VALUES('generations','g1c2','generations/part-34ebae93f4fc40ef871df44c489daecc.parquet');
INSERT INTO "keys" VALUES('generations','g1c3','generations/part-34ebae93f4fc40ef871df44c489daecc.parquet');
INSERT INTO "keys" VALUES('generations','g1c4','generations/part-34ebae93f4fc40ef871df44c489daecc.parquet');
INSERT INTO "keys" VALUES('generations','g1c5','generations/part-34ebae93f4fc40ef871df44c489daecc.parquet');
INSERT INTO "keys" VALUES('annotations','a1c0','annotations/round=001/part-a8dc65eebc57457d87aa8fd8cba359e6.parquet');
INSERT INTO "keys" VALUES('annotations','a1c1','annotations/round=001/part-a8dc65eebc57457d87aa8fd8cba359e6.parquet');
INSERT INTO "keys" VALUES('annotations','a1c2','annotations/round=001/part-a8dc65eebc57457d87aa8fd8cba359e6.parquet');
INSERT INTO "keys" VALUES('annotations','a1c3','annotations/round=001/part-a8dc65eebc57457d87aa8fd8cba359e6.parquet');
INSERT INTO "keys" VALUES('annotations','a1c4','annotations/round=001/part-a8dc65eebc57457d87aa8fd8cba359e6.parquet');
INSERT INTO "keys" VALUES('annotations','a1c5','annotations/round=001/part-a8dc65eebc57457d87aa8fd8cba359e6.parquet');
INSERT INTO "keys" VALUES('generations','g1e2','generations/part-12bb0d5691ca4d378aa9d976e7b1f493.parquet');
INSERT INTO "keys" VALUES('generations','g1e3','generations/part-12bb0d5691ca4d378aa9d976e7b1f493.parquet');
INSERT INTO "keys" VALUES('annotations','a1e2','annotations/round=001/part-2f5ac101022548bfa838c7a1c620db61.parquet');
INSERT INTO "keys" VALUES('annotations','a1e3','annotations/round=001/part-2f5ac101022548bfa838c7a1c620db61.parquet');
INSERT INTO "keys" VALUES('examples','55066ef8b7e3d018c764','examples/round=001/part-47da2faa0867443dbb8a3a9ddc79f716.parquet');
INSERT INTO "keys" VALUES('noise_signals','9c97c4db3a91ec75aba6','noise_signals/round=001/part-16fb9aa60033485e86b4904fe4485971.parquet');
INSERT INTO "keys" VALUES('generations','g2c0','generations/part-7184015133794e949139570af8593b04.parquet');
INSERT INTO "keys" VALUES('generations','g2c1','generations/part-7184015133794e949139570af8593b04.parquet');
INSERT INTO "keys" VALUES('generations','g2c2','generations/part-7184015133794e949139570af8593b04.parquet');
INSERT INTO "keys" VALUES('generations','g2c3','generations/part-7184015133794e949139570af8593b04.parquet');
INSERT INTO "keys" VALUES('generations','g2c4','generations/part-7184015133794e949139570af8593b04.parquet');
INSERT INTO "keys" VALUES('generations','g2c5','generations/part-7184015133794e949139570af8593b04.parquet');
INSERT INTO "keys" VALUES('annotations','a2c0','annotations/round=002/part-6739185ec6f34526952ddbb399b9d26f.parquet');
INSERT INTO "keys" VALUES('annotations','a2c1','annotations/round=002/part-6739185ec6f34526952ddbb399b9d26f.parquet');
INSERT INTO "keys" VALUES('annotations','a2c2','annotations/round=002/part-6739185ec6f34526952ddbb399b9d26f.parquet');
INSERT INTO "keys" VALUES('annotations','a2c3','annotations/round=002/part-6739185ec6f34526952ddbb399b9d26f.parquet');
INSERT INTO "keys" VALUES('annotations','a2c4','annotations/round=002/part-6739185ec6f34526952ddbb399b9d26f.parquet');
INSERT INTO "keys" VALUES('annotations','a2c5','annotations/round=002/part-6739185ec6f34526952ddbb399b9d26f.parquet');
INSERT INTO "keys" VALUES('generations','g2e2','generations/part-1c1ba108f6ff4f70b0f906858a939153.parquet');
INSERT INTO "keys" VALUES('generations','g2e3','generations/part-1c1ba108f6ff4f70b0f906858a939153.parquet');
INSERT INTO "keys" VALUES('annotations','a2e2','annotations/round=002/part-042b8db5fe124809afc2ebf074371fc2.parquet');
INSERT INTO "keys" VALUES('annotations','a2e3','annotations/round=002/part-042b8db5fe124809afc2ebf074371fc2.parquet');
INSERT INTO "keys" VALUES('rejected','73f0ec7c534beac9280d','rejected/round=002/part-f0f6eb6a50854e26bb097d94761da7b1.parquet');
INSERT INTO "keys" VALUES('rejected','273a8b5e6a0d8a1dc12e','rejected/round=002/part-4560f9f9d0a54aadaca0726867b005e9.parquet');
INSERT INTO "keys" VALUES('rejected','2f0d87c991a78dd8a87e','rejected/round=000/part-49e0e1c1bb974b93a10676b02d6754bc.parquet');
INSERT INTO "keys" VALUES('rejected','602245a3f6950293be19','rejected/round=000/part-085ecc23639a43e98fcd339d5b0da3f9.parquet');
CREATE TABLE leases (
	annotation_id VARCHAR NOT NULL, 
	refiner VARCHAR NOT NULL, 
	until FLOAT NOT NULL, 
	PRIMARY KEY (annotation_id)
);
CREATE TABLE locations (
	content_hash VARCHAR NOT NULL, 
	uri TEXT NOT NULL, 
	PRIMARY KEY (content_hash)
);
INSERT INTO "locations" VALUES('h0','/moved/0.mp4');
INSERT INTO "locations" VALUES('h1','/moved/1.mp4');
INSERT INTO "locations" VALUES('h2','/moved/2.mp4');
INSERT INTO "locations" VALUES('h9','/videos/killed.mp4');
CREATE TABLE meta (
	"key" VARCHAR NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','3');
INSERT INTO "meta" VALUES('cost:1:caption','{"money": 1.25, "written": 6}');
INSERT INTO "meta" VALUES('cost:1:evaluation','{"money": 0.5, "written": 2}');
INSERT INTO "meta" VALUES('looks:0','[[1, "d1"], [1, "d2"]]');
INSERT INTO "meta" VALUES('snapshot:1','{"round": 1, "position": 15, "corrections_sha256": "9649678a41b985ecd5247aa97efb0d9811ce669c684a6efa05e1a293a70a8a53", "values": {"leads": ["ann"], "gold": {"c1": "gold text"}, "excluded": ["bob"], "retired": []}}');
INSERT INTO "meta" VALUES('cost:2:caption','{"money": 2.5, "written": 6}');
INSERT INTO "meta" VALUES('cost:2:evaluation','{"money": 0.5, "written": 2}');
INSERT INTO "meta" VALUES('schedule','{}');
INSERT INTO "meta" VALUES('mlflow_parent','abc');
CREATE TABLE refiners (
	name VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	token_hash VARCHAR NOT NULL, 
	at VARCHAR NOT NULL, 
	PRIMARY KEY (name), 
	UNIQUE (token_hash)
);
CREATE TABLE shards (
	name VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	round INTEGER, 
	num_rows INTEGER NOT NULL, 
	position INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "shards" VALUES('clips/part-dfc3573351c44d5795982e3774935a6a.parquet','clips',NULL,2,1);
INSERT INTO "shards" VALUES('clips/part-dded1d12dcd14b9c89f5e9a9a2a60dd7.parquet','clips',NULL,2,2);
INSERT INTO "shards" VALUES('clips/part-e638a44e483c4ce2a00fb7863af5235a.parquet','clips',NULL,2,3);
INSERT INTO "shards" VALUES('annotations/round=000/part-05c9dc7a27e746b5b4b0cd07638bf25b.parquet','annotations',0,1,4);
INSERT INTO "shards" VALUES('annotations/round=000/part-dddae9ca2c1c4e49af587c383632d374.parquet','annotations',0,1,5);
INSERT INTO "shards" VALUES('annotations/round=000/part-8678b89eced34c6d90e90dff29b66c0d.parquet','annotations',0,1,6);
INSERT INTO "shards" VALUES('annotations/round=000/part-45f146264fe848d3bc24641a92abc287.parquet','annotations',0,1,7);
INSERT INTO "shards" VALUES('annotations/round=000/part-a212ba1e8ec84f3bac43c99fd9383c76.parquet','annotations',0,1,8);
INSERT INTO "shards" VALUES('annotations/round=000/part-3bd98e4ff474479b84cc9ca42fb4d994.parquet','annotations',0,1,9);
INSERT INTO "shards" VALUES('generations/part-34ebae93f4fc40ef871df44c489daecc.parquet','generations',NULL,6,10);
INSERT INTO "shards" VALUES('annotations/round=001/part-a8dc65eebc57457d87aa8fd8cba359e6.parquet','annotations',1,6,11);
INSERT INTO "shards" VALUES('generations/part-12bb0d5691ca4d378aa9d976e7b1f493.parquet','generations',NULL,2,12);
INSERT INTO "shards" VALUES('annotations/round=001/part-2f5ac101022548bfa838c7a1c620db61.parquet','annotations',1,2,13);
INSERT INTO "shards" VALUES('examples/round=001/part-47da2faa0867443dbb8a3a9ddc79f716.parquet','examples',1,1,14);
INSERT INTO "shards" VALUES('noise_signals/round=001/part-16fb9aa60033485e86b4904fe4485971.parquet','noise_signals',1,1,15);
INSERT INTO "shards" VALUES('generations/part-7184015133794e949139570af8593b04.parquet','generations',NULL,6,16);
INSERT INTO "shards" VALUES('annotations/round=002/part-6739185ec6f34526952ddbb399b9d26f.parquet','annotations',2,6,17);
INSERT INTO "shards" VALUES('generations/part-1c1ba108f6ff4f70b0f906858a939153.parquet','generations',NULL,2,18);
INSERT INTO "shards" VALUES('annotations/round=002/part-042b8db5fe124809afc2ebf074371fc2.parquet','annotations',2,2,19);
INSERT INTO "shards" VALUES('rejected/round=002/part-f0f6eb6a50854e26bb097d94761da7b1.parquet','rejected',2,1,20);
INSERT INTO "shards" VALUES('rejected/round=002/part-4560f9f9d0a54aadaca0726867b005e9.parquet','rejected',2,1,21);
INSERT INTO "shards" VALUES('rejected/round=000/part-49e0e1c1bb974b93a10676b02d6754bc.parquet','rejected',0,1,22);
INSERT INTO "shards" VALUES('rejected/round=000/part-085ecc23639a43e98fcd339d5b0da3f9.parquet','rejected',0,1,23);
CREATE TABLE stages (
	round INTEGER NOT NULL, 
	stage VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	seconds FLOAT NOT NULL, 
	result TEXT NOT NULL, 
	PRIMARY KEY (round, stage)
);
INSERT INTO "stages" VALUES(1,'annotate','done',1.5,'{"by": 0}');
INSERT INTO "stages" VALUES(1,'review','done',1.5,'{}');
INSERT INTO "stages" VALUES(1,'pretrain','done',1.5,'{}');
INSERT INTO "stages" VALUES(1,'finetune','done',1.5,'{}');
INSERT INTO "stages" VALUES(1,'evaluate','done',1.5,'{}');
INSERT INTO "stages" VALUES(1,'gate','done',1.5,'{}');
INSERT INTO "stages" VALUES(2,'annotate','done',1.5,'{"by": 1}');
INSERT INTO "stages" VALUES(2,'review','done',1.5,'{}');
INSERT INTO "stages" VALUES(0,'evaluate','done',0.0,'{}');
CREATE TABLE takedowns (
	clip_id VARCHAR NOT NULL, 
	reason TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	usage TEXT NOT NULL, 
	PRIMARY KEY (clip_id)
);
CREATE INDEX ix_shards_kind ON shards (kind);
CREATE INDEX ix_corrections_clip_id ON corrections (clip_id);
CREATE INDEX ix_corrections_refiner ON corrections (refiner);
CREATE INDEX ix_corrections_annotation_id ON corrections (annotation_id);
CREATE INDEX ix_gold_clip_id ON gold (clip_id);
CREATE INDEX ix_leases_refiner ON leases (refiner);
COMMIT;
