//! The matrix of stacks.

use std::path::Path;
use std::sync::Arc;

use tiered::journal::JournalConfig;
use tiered::{Create, Durability, ReadPolicy, Result, Sharing, Store, TieredStore, WritePolicy};
use tiered_services::Service;

/// An adapter in a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The reference store.
    Memory,
    /// The memory tier over moka.
    Moka,
    /// The memory tier over `quick_cache`.
    Quick,
    /// The embedded disk tier. Buffered in a stack, since that is about tiering; synced when alone.
    Redb,
    /// The embedded disk tier over RocksDB, buffered in a stack as well.
    #[cfg(feature = "rocksdb")]
    Rocksdb,
    /// The database that services share.
    #[cfg(feature = "postgres")]
    Postgres,
    /// The object store, in the raw layout. It keeps no notes, so it is never a frontend.
    #[cfg(feature = "s3")]
    S3,
}

impl Tier {
    /// Every adapter.
    pub const ALL: &[Self] = &[
        Self::Memory,
        Self::Moka,
        Self::Quick,
        Self::Redb,
        #[cfg(feature = "rocksdb")]
        Self::Rocksdb,
        #[cfg(feature = "postgres")]
        Self::Postgres,
        #[cfg(feature = "s3")]
        Self::S3,
    ];

    /// Whether what it holds is still there when it is opened again.
    pub const fn lasts(self) -> bool {
        !matches!(self, Self::Memory | Self::Moka | Self::Quick)
    }

    /// Its name in a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Moka => "moka",
            Self::Quick => "quick",
            Self::Redb => "redb",
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => "rocksdb",
            #[cfg(feature = "postgres")]
            Self::Postgres => "postgres",
            #[cfg(feature = "s3")]
            Self::S3 => "s3",
        }
    }

    /// The server that it needs.
    pub const fn service(self) -> Option<Service> {
        match self {
            Self::Memory | Self::Moka | Self::Quick | Self::Redb => None,
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => None,
            #[cfg(feature = "postgres")]
            Self::Postgres => Some(Service::Postgres),
            #[cfg(feature = "s3")]
            Self::S3 => Some(Service::S3),
        }
    }

    /// Whether the suite takes most of a minute over it.
    const fn is_slow(self) -> bool {
        match self {
            #[cfg(feature = "s3")]
            Self::S3 => true,
            _ => false,
        }
    }

    /// Whether it keeps what a frontend must.
    const fn fits_in_front(self) -> bool {
        match self {
            #[cfg(feature = "s3")]
            Self::S3 => false,
            _ => true,
        }
    }

    async fn open(self, folder: &Path, name: &str, durability: &str) -> Result<Arc<dyn Store>> {
        let path = folder.join(name);
        let url_of_disk = |scheme: &str| {
            format!("{scheme}:{}?durability={durability}&max_value=4MiB&cache=4MiB", path.display())
        };
        let url = match self {
            Self::Memory => "memory:?max_value=4MiB".to_owned(),
            Self::Moka => "moka:?capacity=256MiB&max_value=4MiB".to_owned(),
            Self::Quick => "quick:?capacity=256MiB&max_value=4MiB".to_owned(),
            Self::Redb => url_of_disk("redb"),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => url_of_disk("rocksdb"),
            #[cfg(feature = "postgres")]
            Self::Postgres => return crate::remote::postgres(folder, name).await,
            #[cfg(feature = "s3")]
            Self::S3 => return crate::remote::s3(folder, name, crate::remote::MAX_VALUE).await,
        };
        tiered::open(&url, Create::IfAbsent).await
    }
}

/// A stack, from the frontend down. Policies are those of the outermost pair; inner ones write through.
#[derive(Clone, Debug)]
pub struct Tiers {
    /// The adapters.
    pub tiers: Vec<Tier>,
    /// How it writes.
    pub write: WritePolicy,
    /// How it reads.
    pub read: ReadPolicy,
}

impl Tiers {
    /// Its name in a table.
    pub fn name(&self) -> String {
        let tiers: Vec<_> = self.tiers.iter().map(|tier| tier.name()).collect();
        if self.tiers.len() == 1 {
            tiers.join("/")
        } else {
            format!("{} {} {}", tiers.join("/"), self.write, self.read)
        }
    }

    /// Whether building it is refused, because its frontend cannot be one.
    pub fn is_refused(&self) -> bool {
        let fronts = self.tiers.len() - 1;
        self.tiers.iter().take(fronts).any(|tier| !tier.fits_in_front())
    }

    /// Whether the suite takes most of a minute over it.
    pub fn is_slow(&self) -> bool {
        self.tiers.last().is_some_and(|tier| tier.is_slow()) && !self.is_refused()
    }

    /// Whether a frontend of it is on a server, where nothing but a declaration keeps a second stack away from it.
    pub fn has_declared_frontend(&self) -> bool {
        let fronts = self.tiers.len() - 1;
        self.tiers.iter().take(fronts).any(|tier| tier.service().is_some())
    }

    /// The servers that it needs.
    pub fn services(&self) -> Vec<Service> {
        self.tiers.iter().filter_map(|tier| tier.service()).collect()
    }

    /// Removes what stacks like this one left on servers, all those of this process. A bucket's leftovers are marks of a
    /// few bytes, under prefixes of their own.
    ///
    /// # Errors
    /// The servers'.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "there is nothing to wait for without servers")
    )]
    pub async fn remove(&self) -> Result<()> {
        #[cfg(feature = "postgres")]
        if self.tiers.contains(&Tier::Postgres) {
            crate::remote::remove_schemas().await?;
        }
        Ok(())
    }

    /// Opens it in `folder`.
    ///
    /// # Errors
    /// A tier's own, or the refusal of a combination that cannot work.
    pub async fn open(&self, folder: &Path) -> Result<Arc<dyn Store>> {
        let mut tiers = self.tiers.iter().rev().enumerate();
        #[cfg(feature = "s3")]
        if self.tiers.contains(&Tier::S3) {
            crate::remote::prepare_s3().await?;
        }
        let Some((_, last)) = tiers.next() else {
            return Err(tiered::Error::new(tiered::ErrorKind::Config, "a stack has at least one tier"));
        };
        let durability = if self.tiers.len() == 1 { "sync" } else { "buffer" };
        let mut store = last.open(folder, "last", durability).await?;
        for (index, tier) in tiers {
            let frontend = tier.open(folder, &index.to_string(), durability).await?;
            let is_server = frontend.capabilities().sharing() == Sharing::Shared;
            let shared = store.capabilities().sharing() == Sharing::Shared;
            let mut builder = TieredStore::builder(frontend, store);
            if is_server {
                // The place is the stack's own.
                builder = builder.declare_private_frontend();
            }
            if index + 1 == self.tiers.len() {
                // A server takes some hundred writes a second: a longer backlog would only be waited for at the end.
                builder = builder.max_pending_operations(500).write_policy(self.write).read_policy(self.read);
                if self.write == WritePolicy::WriteBehind {
                    // Without syncs: thousands of tests, and none of them cuts the power.
                    let journal =
                        JournalConfig::new(folder.join("journal")).durability(Durability::ProcessKill);
                    builder = builder.journal(journal.open().await?).backend_id("matrix");
                    if shared {
                        builder = builder.declare_sole_writer();
                    }
                }
            }
            store = Arc::new(builder.build().await?);
        }
        Ok(store)
    }
}

/// Every combination of adapters once, under policies that take turns; moka over redb under every policy.
pub fn combinations() -> Vec<Tiers> {
    let mut groups: Vec<Vec<Tiers>> = Vec::new();
    for stack in stacks() {
        match groups.iter_mut().find(|group| group.iter().all(|other| other.tiers == stack.tiers)) {
            Some(group) => group.push(stack),
            None => groups.push(vec![stack]),
        }
    }
    let picked = groups.into_iter().enumerate().flat_map(|(index, group)| {
        let policy = index % group.len();
        let all = group.iter().any(|stack| stack.tiers == [Tier::Moka, Tier::Redb]);
        group
            .into_iter()
            .enumerate()
            .filter(move |(place, _)| all || *place == policy)
            .map(|(_, stack)| stack)
    });
    picked.collect()
}

/// Every stack of the matrix.
pub fn stacks() -> Vec<Tiers> {
    let mut stacks: Vec<Tiers> = Vec::new();
    let mut add = |tiers: &[Tier], write, read| stacks.push(Tiers { tiers: tiers.to_vec(), write, read });
    for &tier in Tier::ALL {
        add(&[tier], WritePolicy::WriteThrough, ReadPolicy::FrontendFirst);
    }
    for &frontend in Tier::ALL {
        for &backend in Tier::ALL {
            if !frontend.fits_in_front() {
                // Once: the policies do not matter.
                add(&[frontend, backend], WritePolicy::WriteThrough, ReadPolicy::FrontendFirst);
                continue;
            }
            for write in WritePolicy::ALL.iter().copied() {
                for read in ReadPolicy::ALL.iter().copied() {
                    // Refused when built: a test of the engine shows it.
                    let refused = (write, read) == (WritePolicy::WriteAround, ReadPolicy::FrontendOnly);
                    // The server for tests is slow: every policy over one frontend, one policy over the others.
                    let first = (write, read) == (WritePolicy::WriteThrough, ReadPolicy::FrontendFirst);
                    let slow = backend.is_slow() && frontend != Tier::Moka;
                    // Both memory tiers are one store over two caches: every policy for one of them, and for the other over
                    // what is most used.
                    let twin = (frontend == Tier::Quick && backend != Tier::Redb) || backend == Tier::Quick;
                    if !refused && (first || !(slow || twin)) {
                        add(&[frontend, backend], write, read);
                    }
                }
            }
        }
    }
    for write in WritePolicy::ALL.iter().copied() {
        add(&[Tier::Moka, Tier::Redb, Tier::Redb], write, ReadPolicy::FrontendFirst);
        add(&[Tier::Memory, Tier::Moka, Tier::Redb], write, ReadPolicy::FrontendFirst);
        #[cfg(feature = "rocksdb")]
        add(&[Tier::Moka, Tier::Redb, Tier::Rocksdb], write, ReadPolicy::FrontendFirst);
        #[cfg(feature = "postgres")]
        add(&[Tier::Moka, Tier::Redb, Tier::Postgres], write, ReadPolicy::FrontendFirst);
    }
    #[cfg(feature = "s3")]
    add(&[Tier::Moka, Tier::Redb, Tier::S3], WritePolicy::WriteThrough, ReadPolicy::FrontendFirst);
    stacks
}
