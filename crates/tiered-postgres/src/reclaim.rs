//! Removing values in chunks that no row refers to.
//!
//! A value is doomed first: from then on nothing is added to it, and it cannot be published. Then its chunks go, some at a
//! time, and its mark with the last of them. So several processes may do it at once, and one that ends in between
//! leaves a doomed mark for the next.

use std::sync::Arc;

use sqlx::Row as _;
use tiered_core::Result;

use crate::client::Purpose;
use crate::row::Content;
use crate::store::Inner;

/// Values that are doomed by one statement.
const VALUES: i64 = 100;

/// Chunks that one statement removes: few enough for a second.
const CHUNKS: i64 = 64;

/// Removes what was stored of an upload that was given up, in a task.
pub(crate) fn abandon(inner: &Arc<Inner>, content: Content) {
    let inner = Arc::clone(inner);
    let runtime = inner.client.runtime().clone();
    runtime.spawn(async move {
        let gone = async {
            let doomed = doom(&inner, Doomed::One(content)).await?;
            if doomed.is_empty() { Ok(()) } else { remove(&inner, content).await }
        };
        if let Err(error) = gone.await {
            tracing::debug!(error = %error.chain(), "parts of an upload are left for the sweep");
        }
    });
}

/// Removes the values that were replaced or deleted a minute ago, and those whose upload has given no sign for long.
pub(crate) async fn sweep(inner: &Inner) -> Result<()> {
    loop {
        let doomed = doom(inner, Doomed::Due).await?;
        for content in &doomed {
            remove(inner, *content).await?;
        }
        if i64::try_from(doomed.len()).unwrap_or(i64::MAX) < VALUES {
            return Ok(());
        }
    }
}

/// What is doomed.
#[derive(Clone, Copy)]
enum Doomed {
    One(Content),
    Due,
}

/// Dooms values; which ones.
async fn doom(inner: &Inner, which: Doomed) -> Result<Vec<Content>> {
    let statements = &inner.statements.values;
    let statement = match which {
        Doomed::One(_) => statements.doom.clone(),
        Doomed::Due => statements.doom_due.clone(),
    };
    let doomed = inner.client.run(Purpose::Repeatable, move |connection| {
        let statement = statement.clone();
        Box::pin(async move {
            let query = match &which {
                Doomed::One(content) => statement.query().bind(content.as_bytes()),
                Doomed::Due => statement.query().bind(VALUES),
            };
            let rows = query.fetch_all(connection).await?;
            // What is no id names no chunks.
            let doomed = rows.iter().map(|row| Ok(Content::of(row.try_get(0)?)));
            doomed.filter_map(Result::transpose).collect()
        })
    });
    doomed.await
}

/// Removes a doomed value.
async fn remove(inner: &Inner, content: Content) -> Result<()> {
    loop {
        let (remove, forget) =
            (inner.statements.values.remove.clone(), inner.statements.values.forget.clone());
        let removed = inner.client.run(Purpose::Repeatable, move |connection| {
            let (remove, forget) = (remove.clone(), forget.clone());
            Box::pin(async move {
                let chunks = remove.query().bind(content.as_bytes()).bind(CHUNKS);
                let chunks = chunks.execute(&mut *connection).await?.rows_affected();
                if chunks < CHUNKS.cast_unsigned() {
                    forget.query().bind(content.as_bytes()).execute(connection).await?;
                }
                Ok(chunks)
            })
        });
        if removed.await? < CHUNKS.cast_unsigned() {
            return Ok(());
        }
    }
}
