//! Ranges of large values over S3: how many requests they cost, cold and warm, and whether an answer ever mixes two versions.
//!
//! Every byte is checked. Each line of the table is compared with what it may be, and the program fails where it is more.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod overwritten;
mod reads;

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use futures_util::future::try_join_all;
use measure::bucket::Server;
use measure::table::Table;
use media::requests::{Counted, Requests};
use tiered::quick::QuickConfig;
use tiered::redb::RedbConfig;
use tiered::settings::MaxStale;
use tiered::{Key, Put, Store, TieredStore};
use tiered_conformance::Intercept;

use crate::reads::Values;

/// Bytes of a block.
const BLOCK: u64 = 256 << 10;

/// Reads ranges of values in S3.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    server: Server,
    /// A server that replaces an object at once, as S3 does, for the value that is overwritten. The other one is s3s-fs, which
    /// replaces the bytes and then the metadata, so that a read in between gets those of two versions.
    #[arg(long, env = "TIERED_TEST_S3")]
    overwritten_at: String,
    /// Size of all values, in MiB.
    #[arg(long, default_value_t = 2048)]
    mebibytes: u64,
    /// How many values.
    #[arg(long, default_value_t = 8)]
    values: u64,
    /// How many random ranges are read.
    #[arg(long, default_value_t = 100_000)]
    reads: u64,
    /// Readers at a time.
    #[arg(long, default_value_t = 64)]
    readers: u64,
    /// For how long a value is overwritten while it is read, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let run = Run::new(arguments).await?;
    let mut table = Table::begin();
    run.upload().await?;
    run.scan(&mut table).await?;
    run.crowd(&mut table).await?;
    run.cold(&mut table).await?;
    run.warm(&mut table).await?;
    run.within_capacity(&mut table).await?;
    run.overwritten(&mut table).await?;
    table.end()
}

/// What the measurements share.
struct Run {
    arguments: Arguments,
    s3: tiered::s3::S3Config,
    requests: Arc<Requests>,
    values: Values,
}

impl Run {
    async fn new(arguments: Arguments) -> anyhow::Result<Self> {
        ensure!(arguments.values > 0 && arguments.mebibytes >= arguments.values, "values of 1 MiB at least");
        let s3 = arguments.server.bucket().await?.prefix("ranges/").multipart(8 << 20);
        let values = Values::new(arguments.values, (arguments.mebibytes << 20) / arguments.values)?;
        Ok(Self { arguments, s3, requests: Arc::default(), values })
    }

    /// A stack with nothing in its frontend, which has room for everything.
    async fn stack(&self, max_stale: Duration) -> anyhow::Result<TieredStore> {
        let frontend = QuickConfig::new((self.arguments.mebibytes << 20) * 3 / 2 + (64 << 20)).build()?;
        self.stack_with(frontend, max_stale).await
    }

    async fn stack_with(&self, frontend: impl Store, max_stale: Duration) -> anyhow::Result<TieredStore> {
        let backend = Intercept::new(self.s3.clone().open().await?, Counted(Arc::clone(&self.requests)));
        let builder = TieredStore::builder(frontend, backend).max_stale(MaxStale::AtMost(max_stale));
        Ok(builder.build().await?)
    }

    /// Without a frontend in the way.
    async fn upload(&self) -> anyhow::Result<()> {
        let store = self.s3.clone().open().await?;
        for (key, film) in self.values.all() {
            store.put_stream(key, Put::new(bytes::Bytes::new()), film.stream()).await?;
        }
        store.close().await?;
        Ok(())
    }

    /// One value from its begin to its end in steps of 8 KiB.
    async fn scan(&self, table: &mut Table) -> anyhow::Result<()> {
        let store = self.stack(HOUR).await?;
        self.requests.begin_anew();
        let (key, film) = self.values.first();
        for start in (0..film.size()).step_by(8 << 10) {
            reads::check(&store, key, film, start..start + (8 << 10)).await?;
        }
        table.at_most(
            "a scan in steps of 8 KiB: requests, of so many blocks",
            self.requests.so_far().requests,
            film.size().div_ceil(BLOCK),
        );
        Ok(store.close().await?)
    }

    /// A thousand readers of one block.
    async fn crowd(&self, table: &mut Table) -> anyhow::Result<()> {
        let store = self.stack(HOUR).await?;
        self.requests.begin_anew();
        let (key, film) = self.values.first();
        let reads = (0..1_000).map(|number| reads::check(&store, key, film, number..number + 100));
        try_join_all(reads).await?;
        table.at_most("1,000 readers of one cold block: requests", self.requests.so_far().requests, 1);
        Ok(store.close().await?)
    }

    /// Random ranges of a frontend that has nothing.
    async fn cold(&self, table: &mut Table) -> anyhow::Result<()> {
        let store = self.stack(HOUR).await?;
        self.requests.begin_anew();
        let ranges = self.values.random(self.arguments.reads / 100);
        let touched = self.values.blocks_of(&ranges) * BLOCK;
        self.values.read(&store, &ranges, self.arguments.readers).await?;
        let asked = self.requests.so_far();
        table.at_most(
            "cold random ranges of 64 KiB: KiB read, of 1.1 × the blocks",
            asked.bytes >> 10,
            (touched * 11 / 10) >> 10,
        );
        table.note("cold: requests, one range each", asked.requests);
        table.note("ranges", ranges.len() as u64);
        Ok(store.close().await?)
    }

    /// Random ranges of a frontend that has everything.
    async fn warm(&self, table: &mut Table) -> anyhow::Result<()> {
        let max_stale = Duration::from_secs(5);
        let store = self.stack(max_stale).await?;
        try_join_all(self.values.all().map(|(key, film)| reads::stream(&store, key, film))).await?;
        self.requests.begin_anew();
        let ranges = self.values.random(self.arguments.reads);
        let took = self.values.read(&store, &ranges, self.arguments.readers).await?;
        let asked = self.requests.so_far();
        let periods = 1 + took.as_secs() / max_stale.as_secs();
        table.at_most("warm random ranges of 64 KiB: requests for data", asked.data, 0);
        table.at_most(
            "warm: comparisons of versions, one a value and max-stale",
            asked.requests - asked.data,
            self.arguments.values * periods,
        );
        table.note("warm: ranges a second", per_second(ranges.len() as u64, took));
        let saved = ranges.len() as u64 - asked.requests;
        table.note("saved: GETs of S3", saved);
        table.note("saved: thousandths of a dollar, at 0.0004 $ for 1,000", saved * 4 / 10_000);
        Ok(store.close().await?)
    }

    /// Ten times what a frontend on disk may hold is read through it.
    async fn within_capacity(&self, table: &mut Table) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let capacity = (self.arguments.mebibytes << 20) / 16;
        let file = folder.path().join("cache.redb");
        let frontend = RedbConfig::new(&file).capacity(capacity).open().await?;
        let store = self.stack_with(frontend, HOUR).await?;
        let reads = capacity * 10 / (64 << 10);
        self.values.read(&store, &self.values.random(reads), self.arguments.readers).await?;
        store.close().await?;
        table.at_most(
            "redb with a capacity, after 10 × as much: MiB of its file, of 3.2 × the capacity",
            std::fs::metadata(&file)?.len() >> 20,
            (capacity * 16 / 5) >> 20,
        );
        Ok(())
    }

    /// A value that is overwritten all the time while many read ranges of it.
    async fn overwritten(&self, table: &mut Table) -> anyhow::Result<()> {
        let s3 = self.arguments.server.bucket_at(&self.arguments.overwritten_at).await?.prefix("ranges/");
        let frontend = QuickConfig::new(64 << 20).build()?;
        let store = TieredStore::builder(frontend, s3.open().await?).build().await?;
        let (key, seconds) = (Key::new("overwritten")?, Duration::from_secs(self.arguments.seconds));
        let seen = overwritten::run(&store, &key, self.arguments.readers, seconds).await?;
        table.note("overwritten while it was read: versions", seen.versions);
        table.note("answers", seen.answers);
        table.at_most("answers that mix versions, or are older than acknowledged", seen.wrong, 0);
        Ok(store.close().await?)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn per_second(count: u64, took: Duration) -> u64 {
    count * 1_000 / u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1)
}
