//! The statements for values in chunks: staging them, making an entry of them, reading and removing them.

use std::sync::Arc;

use super::{Prepared, REPLACE, Statement, guarded, live, own};
use crate::schema::Names;

/// The statements for values in chunks.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pub(crate) begin: Statement,
    pub(crate) stage: Statement,
    pub(crate) renew: Statement,
    pub(crate) publish: Statement,
    pub(crate) publish_absent: Statement,
    pub(crate) publish_matches: Statement,
    pub(crate) pieces: Statement,
    pub(crate) doom: Statement,
    pub(crate) doom_due: Statement,
    pub(crate) remove: Statement,
    pub(crate) forget: Statement,
}

/// Now, by the server's clock.
const NOW: &str = "extract(epoch FROM clock_timestamp())::float8";

/// The commit of this statement does not wait for the disk. What is published later does, with all that came before.
const UNSYNCED: &str = "set_config('synchronous_commit', 'off', true) IS NOT NULL";

/// The columns of a row without a value, and the parameters that are put into them.
const COLUMNS: &str = "key, version, modified, expires_at, attributes, checksum, content, session, validated, origin, validator, size";
const PARAMETERS: &str = "$4::bytea, $5::text, $6::bigint, $7::bigint, $8::text::jsonb, $9::bigint, $10::bytea, \
    $11::bigint, $12::bigint, $13::smallint, $14::text, $15::bigint";

/// What a publication is made of: the mark of the value, which is locked while `done` writes the row and removed with it.
/// A value that was removed meanwhile, or of which a part was lost with the server's last moments, has no such mark.
fn published(loose: &str, done: &str) -> String {
    format!(
        "mine AS MATERIALIZED (SELECT old.content FROM {loose} AS old, guard WHERE guard.ok \
         AND old.content = $10::bytea AND NOT old.doomed AND old.bytes = $15::bigint FOR UPDATE OF old), \
         done AS ({done} RETURNING 1), \
         published AS (DELETE FROM {loose} AS old USING mine WHERE old.content = mine.content \
         AND EXISTS (SELECT FROM done))"
    )
}

impl Values {
    pub(super) fn new(names: &Names, feed: bool, prepared: Prepared) -> Self {
        let Names { table, chunks, loose, .. } = names;
        let text = |text: String| Statement { text: Arc::from(text), prepared };
        // Parameters 4 to 8: the value's id, where the chunk begins, its bytes, where it ends, and seconds.
        let staged = |mark: String| {
            let changes = format!(
                "done AS ({mark} RETURNING 1), \
                 stored AS (INSERT INTO {chunks} (content, start, data) SELECT $4::bytea, $5::bigint, $6::bytea \
                 FROM done ON CONFLICT (content, start) DO NOTHING)"
            );
            text(guarded(&changes, UNSYNCED, false))
        };
        let insert = |suffix: &str| {
            let done = format!(
                "INSERT INTO {table} AS old ({COLUMNS}) SELECT {PARAMETERS} FROM mine \
                 ON CONFLICT (key) DO UPDATE SET {REPLACE}{suffix}"
            );
            text(guarded(&published(loose, &done), "EXISTS (SELECT FROM mine)", feed))
        };
        let update = format!(
            "UPDATE {table} AS old SET version = $5::text, modified = $6::bigint, expires_at = $7::bigint, \
             attributes = $8::text::jsonb, checksum = $9::bigint, value = NULL, content = $10::bytea, \
             session = $11::bigint, validated = $12::bigint, origin = $13::smallint, validator = $14::text, \
             size = $15::bigint FROM mine WHERE old.key = $4::bytea AND {} AND (old.version = $17::text OR {})",
            live("$16"),
            own("$5::text", "$9::bigint", "$15::bigint")
        );
        Self {
            begin: staged(format!(
                "INSERT INTO {loose} AS old (content, bytes, ends) SELECT $4::bytea, $7::bigint, {NOW} + $8::float8 \
                 FROM guard WHERE guard.ok ON CONFLICT (content) DO UPDATE SET ends = EXCLUDED.ends \
                 WHERE NOT old.doomed AND old.bytes = EXCLUDED.bytes"
            )),
            // One that was carried out already, and whose answer was lost, is in order.
            stage: staged(format!(
                "UPDATE {loose} AS old SET bytes = $7::bigint, ends = {NOW} + $8::float8 FROM guard WHERE guard.ok \
                 AND old.content = $4::bytea AND NOT old.doomed AND old.bytes IN ($5::bigint, $7::bigint)"
            )),
            renew: text(guarded(
                &format!(
                    "done AS (UPDATE {loose} AS old SET ends = {NOW} + $5::float8 FROM guard WHERE guard.ok \
                     AND old.content = $4::bytea AND NOT old.doomed RETURNING 1)"
                ),
                UNSYNCED,
                false,
            )),
            publish: insert(""),
            publish_absent: insert(&format!(
                " WHERE NOT {} OR {}",
                live("$16"),
                own("EXCLUDED.version", "EXCLUDED.checksum", "EXCLUDED.size")
            )),
            publish_matches: text(guarded(&published(loose, &update), "EXISTS (SELECT FROM mine)", feed)),
            // Chunks say where they begin, so that a value may have chunks of any size. The first that is needed is the last
            // one that begins no later than the range does.
            pieces: text(format!(
                "SELECT part.place, greatest(part.first, chunk.start), substr(chunk.data, \
                 greatest(part.first - chunk.start, 0)::integer + 1, \
                 least(part.beyond - greatest(part.first, chunk.start), 2147483647)::integer) \
                 FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS part(first, beyond, place), LATERAL \
                 (SELECT start, data FROM {chunks} WHERE content = $1::bytea AND start < part.beyond AND start >= \
                 (SELECT coalesce(max(start), 0) FROM {chunks} WHERE content = $1::bytea AND start <= part.first)) \
                 AS chunk"
            )),
            doom: text(format!(
                "UPDATE {loose} SET doomed = true WHERE content = $1::bytea RETURNING content"
            )),
            doom_due: text(format!(
                "UPDATE {loose} SET doomed = true WHERE content IN (SELECT content FROM {loose} \
                 WHERE doomed OR ends < {NOW} ORDER BY ends LIMIT $1::bigint FOR UPDATE SKIP LOCKED) \
                 RETURNING content"
            )),
            remove: text(format!(
                "DELETE FROM {chunks} WHERE content = $1::bytea AND start IN (SELECT start FROM {chunks} \
                 WHERE content = $1::bytea ORDER BY start LIMIT $2::bigint)"
            )),
            forget: text(format!(
                "DELETE FROM {loose} WHERE content = $1::bytea AND doomed \
                 AND NOT EXISTS (SELECT FROM {chunks} WHERE content = $1::bytea)"
            )),
        }
    }
}
