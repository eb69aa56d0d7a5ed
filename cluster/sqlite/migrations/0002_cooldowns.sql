-- Offers that could not be had, for every run to know. An empty column stands for
-- any value.

CREATE TABLE cooldowns (
    cloud  TEXT NOT NULL,
    region TEXT NOT NULL,
    zone   TEXT NOT NULL,
    type   TEXT NOT NULL,
    spot   INTEGER NOT NULL,
    until  INTEGER NOT NULL, -- nanoseconds since 1970
    body   TEXT NOT NULL,
    PRIMARY KEY (cloud, region, zone, type, spot)
) STRICT, WITHOUT ROWID;
