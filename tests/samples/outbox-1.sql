PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE dropped (what TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE event (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    camera TEXT NOT NULL,
    event_id TEXT NOT NULL,
    phase TEXT NOT NULL,
    put_at REAL NOT NULL,
    ms INTEGER, sub INTEGER,
    acked INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL
);
INSERT INTO "event" VALUES(1,'events','top','01a1ee56-5e00-7000-a154-7d407de21a8c','open',1795000000.0,1795000000000,0,1,'{"schema":"defect/1","id":"01a1ee56-5e00-7000-a154-7d407de21a8c","seq":1,"kind":"camera","type":"camera.down","phase":"open","defect_id":"01a1ee56-5e00-7000-a154-7d407de21a8c","site":"plant-a","line":"line-1","camera":"top","verdict":"unknown","severity":"major","reason":"no route to that host","score":null,"threshold":null,"score_ratio":null,"captured_at":"2026-11-18T11:06:40.000000Z","detected_at":"2026-11-18T11:06:40.000000Z","published_at":null,"opened_at":null,"clock":"host","frames":null,"regions":[],"part_id":"NA","job_id":"NA","recipe":"NA","model":null,"config_sha256":"abababababababababababababababababababababababababababababababab","image":null,"heatmap":null,"latency_ms":{},"detail":{}}');
INSERT INTO "event" VALUES(2,'events','-','01a1ee56-5e00-7001-aef2-802c026b9e25','close',1795000000.0,1795000000000,1,0,'{"schema":"defect/1","id":"01a1ee56-5e00-7001-aef2-802c026b9e25","seq":1,"kind":"system","type":"system.started","phase":"close","defect_id":"01a1ee56-5e00-7001-aef2-802c026b9e25","site":"plant-a","line":"line-1","camera":"-","verdict":"unknown","severity":"minor","reason":null,"score":null,"threshold":null,"score_ratio":null,"captured_at":"2026-11-18T11:06:40.000000Z","detected_at":"2026-11-18T11:06:40.000000Z","published_at":null,"opened_at":null,"clock":"host","frames":null,"regions":[],"part_id":"NA","job_id":"NA","recipe":"NA","model":null,"config_sha256":"abababababababababababababababababababababababababababababababab","image":null,"heatmap":null,"latency_ms":{},"detail":{}}');
CREATE TABLE incident (defect_id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "incident" VALUES('01a1ee56-5e00-7000-a154-7d407de21a8c','{"schema":"defect/1","id":"01a1ee56-5e00-7000-a154-7d407de21a8c","seq":1,"kind":"camera","type":"camera.down","phase":"open","defect_id":"01a1ee56-5e00-7000-a154-7d407de21a8c","site":"plant-a","line":"line-1","camera":"top","verdict":"unknown","severity":"major","reason":"no route to that host","score":null,"threshold":null,"score_ratio":null,"captured_at":"2026-11-18T11:06:40.000000Z","detected_at":"2026-11-18T11:06:40.000000Z","published_at":null,"opened_at":null,"clock":"host","frames":null,"regions":[],"part_id":"NA","job_id":"NA","recipe":"NA","model":null,"config_sha256":"abababababababababababababababababababababababababababababababab","image":null,"heatmap":null,"latency_ms":{},"detail":{}}');
CREATE TABLE seq (camera TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "seq" VALUES('-',1);
INSERT INTO "seq" VALUES('top',1);
CREATE INDEX waiting ON event (stream, camera, n) WHERE acked = 0;
CREATE INDEX assigned ON event (stream, ms, sub) WHERE acked = 0 AND ms IS NOT NULL;
CREATE INDEX kept ON event (stream, ms, sub) WHERE acked = 1;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('event',2);
COMMIT;
