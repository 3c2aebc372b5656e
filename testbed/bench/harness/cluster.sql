-- Beside pgbench's tables: text, jsonb and long values that PostgreSQL moves out of line, as an Odoo database has them.
-- :units is in thousands of rows; a unit of each table together is about 1.8 MB. All values come from hashes of row numbers.
CREATE TEMPORARY TABLE word AS
  SELECT i, substr(translate(md5('w' || i), '0123456789', 'aeioulnrst'), 1, 3 + (i * 7) % 7) AS word FROM generate_series(0, 4095) AS i;
-- Half-sentences of eight words; a text is made of random ones.
CREATE TEMPORARY TABLE phrase AS
  SELECT p AS i, string_agg(word.word, ' ' ORDER BY k) AS phrase
  FROM generate_series(0, 32767) AS p
  CROSS JOIN generate_series(1, 8) AS k
  JOIN word ON word.i = (hashint8extended(p * 8 + k, 11) & 4095)
  GROUP BY p;
CREATE TEMPORARY TABLE phrases AS SELECT array_agg(phrase ORDER BY i) AS list FROM phrase;

CREATE TABLE mail_message (
  id bigint, create_date timestamptz, author_id int, subject text, body text
) WITH (fillfactor = 90);
INSERT INTO mail_message
  SELECT i, timestamptz '2024-01-01 00:00:00+00' + i * interval '37 seconds', hashint8extended(i, 1) & 1023,
    phrases.list[1 + (hashint8extended(i, 2) & 32767)],
    (SELECT string_agg(phrases.list[1 + (hashint8extended(i * 32 + k, 3) & 32767)], '. ')
       FROM generate_series(1, 4 + (hashint8extended(i, 4) & 15)) AS k)
  FROM generate_series(1::bigint, 1000 * :units) AS i, phrases;

CREATE TABLE sale_order_json (id bigint, partner_id int, data jsonb) WITH (fillfactor = 90);
INSERT INTO sale_order_json
  SELECT i, hashint8extended(i, 5) & 16383,
    jsonb_build_object(
      'name', 'S' || lpad(i::text, 8, '0'), 'state', (ARRAY['draft', 'sent', 'sale', 'done'])[1 + (hashint8extended(i, 6) & 3)],
      'amount_total', (hashint8extended(i, 7) & 1048575) / 100.0, 'note', phrases.list[1 + (hashint8extended(i, 8) & 32767)],
      'uuid', md5('order' || i),
      'lines', (SELECT jsonb_agg(jsonb_build_object('product', hashint8extended(i * 8 + k, 9) & 4095, 'quantity', k,
                  'price', (hashint8extended(i * 8 + k, 10) & 65535) / 100.0))
                FROM generate_series(1, 1 + (hashint8extended(i, 12) & 3)) AS k))
  FROM generate_series(1::bigint, 1000 * :units) AS i, phrases;

-- Too long for a page: stored out of line. Half is text, half is as random as a signature or an image.
CREATE TABLE document (id bigint, name text, content text);
INSERT INTO document
  SELECT i, 'document ' || i,
    (SELECT string_agg(CASE WHEN i % 2 = 0 THEN md5(i || '-' || k) ELSE phrases.list[1 + (hashint8extended(i * 512 + k, 13) & 32767)] END, ' ')
       FROM generate_series(1, 100 + (hashint8extended(i, 14) & 255)) AS k)
  FROM generate_series(1::bigint, 60 * :units) AS i, phrases;

ALTER TABLE mail_message ADD PRIMARY KEY (id);
ALTER TABLE sale_order_json ADD PRIMARY KEY (id);
ALTER TABLE document ADD PRIMARY KEY (id);
CREATE INDEX ON mail_message (author_id, create_date);
CREATE INDEX ON sale_order_json (partner_id);
