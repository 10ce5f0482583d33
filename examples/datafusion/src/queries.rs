//! The queries, much as TPC-H has them, and their answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::data::Table;

/// Where DataFusion finds the lake.
const LAKE: &str = "s3://lake";

/// Each has one answer only: what it sums up is decimal, and what it lists is in order.
const QUERIES: [(&str, &str); 9] = [
    ("rows", "SELECT count(*) FROM lineitem"),
    (
        "pricing summary (Q1)",
        "SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice), \
         sum(l_extendedprice * (1 - l_discount)), sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)), \
         avg(l_quantity), count(*) FROM lineitem WHERE l_shipdate <= DATE '1998-09-02' \
         GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus",
    ),
    (
        "open orders (Q3)",
        "SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate \
         FROM orders JOIN lineitem ON l_orderkey = o_orderkey \
         WHERE o_orderdate < DATE '1995-03-15' AND l_shipdate > DATE '1995-03-15' \
         GROUP BY l_orderkey, o_orderdate ORDER BY revenue DESC, o_orderdate, l_orderkey LIMIT 10",
    ),
    (
        "priorities (Q4)",
        "SELECT o_orderpriority, count(*) FROM orders \
         WHERE o_orderdate >= DATE '1993-07-01' AND o_orderdate < DATE '1993-10-01' AND EXISTS \
         (SELECT 1 FROM lineitem WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate) \
         GROUP BY o_orderpriority ORDER BY o_orderpriority",
    ),
    (
        "forecast (Q6)",
        "SELECT sum(l_extendedprice * l_discount) FROM lineitem \
         WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01' \
         AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24",
    ),
    (
        "ship modes (Q12)",
        "SELECT l_shipmode, sum(CASE WHEN o_orderpriority IN ('1-URGENT', '2-HIGH') THEN 1 ELSE 0 END) \
         FROM orders JOIN lineitem ON o_orderkey = l_orderkey \
         WHERE l_shipmode IN ('MAIL', 'SHIP') AND l_commitdate < l_receiptdate \
         AND l_shipdate < l_commitdate AND l_receiptdate >= DATE '1994-01-01' \
         AND l_receiptdate < DATE '1995-01-01' GROUP BY l_shipmode ORDER BY l_shipmode",
    ),
    ("one order", "SELECT * FROM lineitem WHERE l_orderkey = 1234 ORDER BY l_linenumber"),
    (
        "comments",
        "SELECT count(*), min(l_comment), max(l_comment) FROM lineitem WHERE l_comment LIKE '%sly dolphins%'",
    ),
    (
        "large orders (Q18)",
        "SELECT o_orderkey, o_custkey, o_totalprice, sum(l_quantity) AS pieces FROM orders \
         JOIN lineitem ON o_orderkey = l_orderkey GROUP BY o_orderkey, o_custkey, o_totalprice \
         HAVING sum(l_quantity) > 300 ORDER BY o_totalprice DESC, o_orderkey LIMIT 20",
    ),
];

/// What the queries gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answers {
    answers: Vec<String>,
    pub(crate) took: Duration,
}

impl Answers {
    /// How many are not as `right` has them.
    pub(crate) fn wrong(&self, right: &Self) -> u64 {
        let wrong = self.answers.iter().zip(&right.answers).filter(|(one, other)| one != other).count();
        wrong as u64 + self.answers.len().abs_diff(right.answers.len()) as u64
    }
}

/// Asks all queries of the lake in `store`, in a session of their own, with DataFusion's own caches as they are by default.
///
/// # Errors
/// The first query that fails.
pub(crate) async fn ask(store: Arc<dyn ObjectStore>) -> anyhow::Result<Answers> {
    let began = Instant::now();
    let session = session(store).await?;
    let mut answers = Vec::with_capacity(QUERIES.len());
    for (name, query) in QUERIES {
        answers.push(answer(&session, name, query).await?);
    }
    Ok(Answers { answers, took: began.elapsed() })
}

/// The same, where a query that fails has its error for an answer.
#[cfg(feature = "peers")]
pub(crate) async fn ask_each(store: Arc<dyn ObjectStore>) -> Answers {
    let began = Instant::now();
    let mut answers = Vec::with_capacity(QUERIES.len());
    match session(store).await {
        Ok(session) => {
            for (name, query) in QUERIES {
                answers
                    .push(answer(&session, name, query).await.unwrap_or_else(|error| format!("{error:#}")));
            }
        }
        Err(error) => answers.extend(QUERIES.map(|_| format!("{error:#}"))),
    }
    Answers { answers, took: began.elapsed() }
}

async fn session(store: Arc<dyn ObjectStore>) -> anyhow::Result<SessionContext> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4));
    session.register_object_store(&Url::parse(LAKE)?, store);
    for table in Table::ALL {
        let folder = format!("{LAKE}/{}/", table.name());
        session.register_parquet(table.name(), folder, ParquetReadOptions::default()).await?;
    }
    Ok(session)
}

async fn answer(session: &SessionContext, name: &str, query: &str) -> anyhow::Result<String> {
    let answer = async { session.sql(query).await?.collect().await };
    let answer = answer.await.with_context(|| format!("{name} failed"))?;
    Ok(format!("{name}\n{}", pretty_format_batches(&answer)?))
}
