//! Removing what has expired, and values that no row refers to.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tiered_core::Result;

use crate::client::Purpose;
use crate::reclaim;
use crate::row::now;
use crate::store::Inner;

/// Rows in one statement: few enough that its locks are held for milliseconds.
const BATCH: i64 = 1_000;

/// Removes expired rows, and values that no row refers to, periodically until the store is closed or dropped.
pub(crate) fn start(inner: &Arc<Inner>, every: Duration) {
    let leaving = inner.leaving.clone();
    let runtime = inner.client.runtime().clone();
    let inner: Weak<Inner> = Arc::downgrade(inner);
    runtime.spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = leaving.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let Some(inner) = inner.upgrade() else { return };
            match sweep(&inner).await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(rows, "expired rows were removed"),
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "removing what is not needed any longer failed; it is retried");
                }
            }
        }
    });
}

/// Removes expired rows, and values that no row refers to; returns how many rows.
pub(crate) async fn sweep(inner: &Inner) -> Result<u64> {
    let removed = expired(inner).await?;
    reclaim::sweep(inner).await?;
    Ok(removed)
}

async fn expired(inner: &Inner) -> Result<u64> {
    let mut removed = 0;
    loop {
        let (statement, now) = (inner.statements.sweep.clone(), now(inner.stamp.now()));
        let rows = inner
            .client
            .run(Purpose::Write, move |connection| {
                let statement = statement.clone();
                Box::pin(async move {
                    let done = statement.query().bind(now).bind(BATCH).execute(connection).await?;
                    Ok(done.rows_affected())
                })
            })
            .await?;
        removed += rows;
        if rows < BATCH.cast_unsigned() {
            return Ok(removed);
        }
    }
}
