//! Batches: one statement where nothing is to be judged, else one transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::{Connection as _, PgConnection, Row as _};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::adapter::precondition_failed;
use tiered_core::{
    Action, Applied, Atomicity, Batch, Deleted, Entry, Error, ErrorKind, Key, Operation, Outcome,
    Precondition, Result, Version, Written, adapter,
};

use crate::client::Purpose;
use crate::row::{Record, now};
use crate::sql::{Query, Statements};
use crate::store::PostgresStore;
use crate::write::{announcement, too_late};

/// A statement takes at most so many bytes of values and so many operations; a larger batch is a transaction of
/// several, and the larger value of a put is sent in chunks. Postgres takes a message of 1 GiB at most, and holds it in
/// memory.
pub(crate) const STATEMENT_BYTES: usize = 32 << 20;
const STATEMENT_OPERATIONS: usize = 10_000;

/// The largest value in a batch, in bytes: it is one parameter of one statement.
const ROW: u64 = 900 << 20;

/// One operation, stamped.
#[derive(Clone)]
struct Step {
    key: Key,
    /// What is put; nothing is a delete.
    record: Option<Record>,
    precondition: Precondition,
    /// What the operation writes.
    own: Option<Own>,
}

/// A batch, stamped: what is judged, and what is written in the end.
struct Plan {
    steps: Vec<Step>,
    /// The places of the last step of each key, in the order of the keys.
    last: Vec<usize>,
    /// Whether a refused operation fails alone.
    alone: bool,
    now: i64,
    /// Where writes are announced.
    channel: Option<String>,
}

/// What a batch writes: of each key the last operation, in the order of the keys.
struct Writes<'p> {
    puts: Vec<&'p Record>,
    deletes: Vec<&'p Key>,
    announcements: Vec<String>,
}

impl Plan {
    fn new(steps: Vec<Step>, alone: bool, now: i64, channel: Option<String>) -> Self {
        let mut last: Vec<(usize, &Key)> =
            steps.iter().enumerate().rev().map(|(place, step)| (place, &step.key)).collect();
        // Stable: of several steps on a key the last one stays the first here.
        last.sort_by_key(|(_, key)| *key);
        last.dedup_by_key(|(_, key)| *key);
        let last = last.into_iter().map(|(place, _)| place).collect();
        Self { steps, last, alone, now, channel }
    }

    /// The last step of each key, in the order of the keys.
    fn last_steps(&self) -> impl Iterator<Item = &Step> {
        self.last.iter().filter_map(|place| self.steps.get(*place))
    }

    fn writes(&self) -> Writes<'_> {
        let mut writes = Writes { puts: Vec::new(), deletes: Vec::new(), announcements: Vec::new() };
        for step in self.last_steps() {
            match &step.record {
                Some(record) => writes.puts.push(record),
                None => writes.deletes.push(&step.key),
            }
            if self.channel.is_some() {
                let version = step.own.as_ref().map(|(version, ..)| version);
                writes.announcements.push(announcement(&step.key, version));
            }
        }
        writes
    }

    /// The same batch without the steps at these places.
    fn without(&self, refused: &BTreeSet<usize>) -> Self {
        let kept = self.steps.iter().enumerate().filter(|(index, _)| !refused.contains(index));
        let steps = kept.map(|(_, step)| step.clone()).collect();
        Self::new(steps, self.alone, self.now, self.channel.clone())
    }

    fn is_conditional(&self) -> bool {
        self.steps.iter().any(|step| step.precondition != Precondition::None)
    }

    /// Whether one statement does it: nothing is to be judged, it is small enough, and rows are taken in the order of their
    /// keys, which one statement does only where all are put or all are deleted.
    fn is_one_statement(&self) -> bool {
        if self.is_conditional() || self.steps.len() > STATEMENT_OPERATIONS {
            return false;
        }
        let writes = self.writes();
        writes.puts.iter().map(|record| record.value.len()).sum::<usize>() <= STATEMENT_BYTES
            && (writes.puts.is_empty() || writes.deletes.is_empty())
    }
}

/// The keys that were found before the batch.
type Existed = BTreeSet<Key>;

/// What became of a batch: the keys that existed before, and the steps that were refused.
type Done = (Existed, BTreeSet<usize>);

/// What tells a row that this write has written: its version, checksum and size.
type Own = (Version, i64, i64);

fn own(entry: &Entry) -> Own {
    let checksum = i64::from(adapter::checksum_of(entry).as_u32());
    (entry.version().clone(), checksum, i64::try_from(entry.size()).unwrap_or(i64::MAX))
}

impl PostgresStore {
    pub(crate) async fn apply_batch(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.check_open(Operation::Apply)?;
        let alone = batch.atomicity() == Atomicity::PerItem;
        let (batch, refused) = batch.checked(|key, action| {
            self.0.capabilities.check_action(key, action)?;
            check_row(action)
        })?;
        if batch.is_empty() {
            return Ok(refused.among(Vec::new()));
        }
        let steps: Vec<Step> = batch.into_operations().into_iter().map(|op| self.step(op)).collect();
        let (now, channel) = (now(self.0.stamp.now()), self.0.channel.clone());
        let plan = Arc::new(Plan::new(steps, alone, now, channel));
        let (existed, failed) = if plan.is_one_statement() {
            (self.apply_at_once(Arc::clone(&plan)).await?, BTreeSet::new())
        } else {
            self.apply_in_transaction(Arc::clone(&plan)).await?
        };
        let answer = |(index, step): (usize, &Step)| {
            if failed.contains(&index) {
                return Err(self.failed(precondition_failed(&step.key), Operation::Apply));
            }
            Ok(match &step.own {
                Some((version, ..)) => Applied::Put(Written::committed(version.clone())),
                None => Applied::Delete(Deleted::committed(existed.contains(&step.key))),
            })
        };
        Ok(refused.among(plan.steps.iter().enumerate().map(answer).collect()))
    }

    fn step(&self, (key, action): (Key, Action)) -> Step {
        match action {
            Action::Put(put) => {
                let entry = self.0.stamp.entry(&put);
                let record = Some(Record::of(&key, &entry));
                Step { key, record, precondition: put.precondition, own: Some(own(&entry)) }
            }
            Action::Delete(delete) => {
                Step { key, record: None, precondition: delete.precondition, own: None }
            }
        }
    }

    /// One statement: atomic, one round trip. Which deleted keys existed.
    async fn apply_at_once(&self, plan: Arc<Plan>) -> Result<Existed> {
        let announcements = Arc::from(plan.writes().announcements);
        let answer = self.write(&self.0.statements.apply, announcements, move |query| {
            let writes = plan.writes();
            Columns::of(writes.puts.into_iter()).bind(query, bytes(writes.deletes), plan.now)
        });
        let answer = answer.await?;
        Ok(keys(answer.row.try_get(2).unwrap_or_default()))
    }

    /// A transaction, in a task that is never cancelled.
    async fn apply_in_transaction(&self, plan: Arc<Plan>) -> Result<Done> {
        let statements = self.0.statements.clone();
        for _ in 0..2 {
            let (plan, statements, deadline) =
                (Arc::clone(&plan), statements.clone(), self.0.client.deadline());
            let ended = self
                .0
                .client
                .run(Purpose::Write, move |connection| {
                    let (plan, statements) = (Arc::clone(&plan), statements.clone());
                    Box::pin(async move { transact(connection, &plan, &statements, deadline).await })
                })
                .await?;
            match ended {
                Ended::Committed(done) => return Ok(done),
                Ended::Refused(key) => return Err(precondition_failed(&key)),
                Ended::Late(clock) => self.0.client.clock().set(clock),
            }
        }
        Err(too_late())
    }
}

fn check_row(action: &Action) -> Result<()> {
    match action {
        Action::Put(put) if put.value.len() as u64 > ROW => {
            let message = format!(
                "the value has {} bytes; a batch in postgres takes values of {ROW} at most; put it alone, or split it",
                put.value.len()
            );
            Err(Error::new(ErrorKind::TooLarge, message).outcome_is(Outcome::NotApplied))
        }
        Action::Put(_) | Action::Delete(_) => Ok(()),
    }
}

/// How a transaction ended.
enum Ended {
    Committed(Done),
    /// A precondition does not hold for this key, and the batch is not judged per item.
    Refused(Key),
    /// It began after its deadline, by the server's clock, which says this.
    Late(f64),
}

fn bytes<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Vec<&'k [u8]> {
    keys.into_iter().map(|key| key.as_str().as_bytes()).collect()
}

fn keys(found: Vec<Vec<u8>>) -> Existed {
    found.into_iter().filter_map(|key| Key::try_from(String::from_utf8(key).ok()?).ok()).collect()
}

async fn transact(
    connection: &mut PgConnection,
    plan: &Plan,
    statements: &Statements,
    deadline: f64,
) -> Result<Ended, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let keys_of_all = plan.last_steps().map(|step| &step.key);
    let locks = statements.lock.query().bind(deadline).bind("").bind(Vec::<String>::new());
    let locked = locks.bind(bytes(keys_of_all)).fetch_one(&mut *transaction).await?;
    if !locked.try_get(0)? {
        let clock = locked.try_get(3)?;
        transaction.rollback().await?;
        return Ok(Ended::Late(clock));
    }
    let (before, refused) = judge(&mut transaction, plan, statements).await?;
    let narrowed;
    let plan = match refused.first().and_then(|index| plan.steps.get(*index)) {
        None => plan,
        Some(step) if !plan.alone => {
            transaction.rollback().await?;
            return Ok(Ended::Refused(step.key.clone()));
        }
        Some(_) => {
            narrowed = plan.without(&refused);
            &narrowed
        }
    };
    let mut existed = Existed::new();
    let Writes { puts, deletes, mut announcements } = plan.writes();
    let (mut parts, mut deletes) = (parts(puts).into_iter(), bytes(deletes));
    loop {
        let puts = parts.next();
        if puts.is_none() && deletes.is_empty() && announcements.is_empty() {
            break;
        }
        // The deletes and all announcements go with the first part.
        let query = statements
            .apply
            .query()
            .bind(f64::MAX)
            .bind(plan.channel.clone().unwrap_or_default())
            .bind(std::mem::take(&mut announcements));
        let columns = Columns::of(puts.unwrap_or_default().into_iter());
        let query = columns.bind(query, std::mem::take(&mut deletes), plan.now);
        existed.extend(keys(query.fetch_one(&mut *transaction).await?.try_get(2)?));
    }
    transaction.commit().await?;
    Ok(Ended::Committed((before.unwrap_or(existed), refused)))
}

/// The puts, in parts that one statement takes.
fn parts(puts: Vec<&Record>) -> Vec<Vec<&Record>> {
    let mut parts: Vec<Vec<&Record>> = Vec::new();
    let mut bytes = usize::MAX;
    for record in puts {
        bytes = bytes.saturating_add(record.value.len());
        match parts.last_mut() {
            Some(part) if bytes <= STATEMENT_BYTES && part.len() < STATEMENT_OPERATIONS => part.push(record),
            _ => {
                bytes = record.value.len();
                parts.push(vec![record]);
            }
        }
    }
    parts
}

/// Judges the preconditions of a batch whose rows are locked. Where there are some: which keys existed. And the steps
/// whose preconditions do not hold.
async fn judge(
    connection: &mut PgConnection,
    plan: &Plan,
    statements: &Statements,
) -> Result<(Option<Existed>, BTreeSet<usize>), sqlx::Error> {
    if !plan.is_conditional() {
        return Ok((None, BTreeSet::new()));
    }
    // A delete that a later step replaces answers whether its key existed as well.
    let is_judged = |step: &&Step| step.precondition != Precondition::None || step.own.is_none();
    let judged: BTreeSet<&Key> = plan.steps.iter().filter(is_judged).map(|step| &step.key).collect();
    let rows =
        statements.judge.query().bind(bytes(judged)).bind(plan.now).fetch_all(&mut *connection).await?;
    let mut current = HashMap::new();
    for row in rows {
        let (key, version): (&[u8], &str) = (row.try_get(0)?, row.try_get(1)?);
        let Some(key) = std::str::from_utf8(key).ok().and_then(|key| Key::new(key).ok()) else { continue };
        if row.try_get(2)? {
            let found = version.parse::<Version>().ok();
            let (checksum, size): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
            current.insert(key, found.map(|version| (version, checksum, size)));
        }
    }
    let is_refused = |step: &Step| {
        let found = current.get(&step.key).and_then(Option::as_ref);
        // A retry after a lost answer recognises its own write.
        let again = step.own.is_some() && found == step.own.as_ref();
        !step.precondition.holds(found.map(|(version, ..)| version)) && !again
    };
    let refused = plan.steps.iter().enumerate().filter(|(_, step)| is_refused(step));
    let refused = refused.map(|(index, _)| index).collect();
    Ok((Some(current.into_keys().collect()), refused))
}

/// Puts as columns, for `unnest`.
#[derive(Default)]
struct Columns<'r> {
    keys: Vec<&'r [u8]>,
    versions: Vec<&'r str>,
    modified: Vec<i64>,
    expires_at: Vec<Option<i64>>,
    attributes: Vec<Option<&'r str>>,
    checksums: Vec<i64>,
    values: Vec<&'r [u8]>,
    sessions: Vec<Option<i64>>,
    validated: Vec<Option<i64>>,
    origins: Vec<i16>,
    validators: Vec<Option<&'r str>>,
}

impl<'r> Columns<'r> {
    fn of(records: impl Iterator<Item = &'r Record>) -> Self {
        let mut columns = Self::default();
        for record in records {
            columns.keys.push(record.key.as_str().as_bytes());
            columns.versions.push(&record.version);
            columns.modified.push(record.modified);
            columns.expires_at.push(record.expires_at);
            columns.attributes.push(record.attributes.as_deref());
            columns.checksums.push(record.checksum);
            columns.values.push(&record.value);
            columns.sessions.push(record.session);
            columns.validated.push(record.validated);
            columns.origins.push(record.origin);
            columns.validators.push(record.validator.as_deref());
        }
        columns
    }

    fn bind<'q>(self, query: Query<'q>, deletes: Vec<&[u8]>, now: i64) -> Query<'q> {
        query
            .bind(deletes)
            .bind(now)
            .bind(self.keys)
            .bind(self.versions)
            .bind(self.modified)
            .bind(self.expires_at)
            .bind(self.attributes)
            .bind(self.checksums)
            .bind(self.values)
            .bind(self.sessions)
            .bind(self.validated)
            .bind(self.origins)
            .bind(self.validators)
    }
}
