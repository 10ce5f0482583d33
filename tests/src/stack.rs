//! The matrix of stacks.

use std::path::Path;
use std::sync::Arc;

use tiered::{Create, ReadPolicy, Result, Store, TieredStore, VolatileJournal, WritePolicy};

/// An adapter in a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The reference store.
    Memory,
    /// The memory tier.
    Moka,
    /// The embedded disk tier. Buffered in a stack, since that is about tiering; synced when alone.
    Redb,
    /// The embedded disk tier over RocksDB, buffered in a stack as well.
    #[cfg(feature = "rocksdb")]
    Rocksdb,
}

impl Tier {
    /// Every adapter.
    pub const ALL: &[Self] = &[
        Self::Memory,
        Self::Moka,
        Self::Redb,
        #[cfg(feature = "rocksdb")]
        Self::Rocksdb,
    ];

    /// Whether what it holds is still there when it is opened again.
    pub const fn lasts(self) -> bool {
        !matches!(self, Self::Memory | Self::Moka)
    }

    /// Its name in a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Moka => "moka",
            Self::Redb => "redb",
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => "rocksdb",
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
            Self::Redb => url_of_disk("redb"),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => url_of_disk("rocksdb"),
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

    /// Opens it in `folder`.
    ///
    /// # Errors
    /// A tier's own, or the refusal of a combination that cannot work.
    pub async fn open(&self, folder: &Path) -> Result<Arc<dyn Store>> {
        let mut tiers = self.tiers.iter().rev().enumerate();
        let Some((_, last)) = tiers.next() else {
            return Err(tiered::Error::new(tiered::ErrorKind::Config, "a stack has at least one tier"));
        };
        let durability = if self.tiers.len() == 1 { "sync" } else { "buffer" };
        let mut store = last.open(folder, "last", durability).await?;
        for (index, tier) in tiers {
            let frontend = tier.open(folder, &index.to_string(), durability).await?;
            let mut builder = TieredStore::builder(frontend, store);
            if index + 1 == self.tiers.len() {
                builder = builder.write_policy(self.write).read_policy(self.read);
                if self.write == WritePolicy::WriteBehind {
                    builder = builder.journal(Arc::new(VolatileJournal::new()));
                }
            }
            store = Arc::new(builder.build().await?);
        }
        Ok(store)
    }
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
            for write in WritePolicy::ALL {
                for read in ReadPolicy::ALL {
                    // Refused when built: a test of the engine shows it.
                    if (write, read) != (WritePolicy::WriteAround, ReadPolicy::FrontendOnly) {
                        add(&[frontend, backend], write, read);
                    }
                }
            }
        }
    }
    for write in WritePolicy::ALL {
        add(&[Tier::Moka, Tier::Redb, Tier::Redb], write, ReadPolicy::FrontendFirst);
        add(&[Tier::Memory, Tier::Moka, Tier::Redb], write, ReadPolicy::FrontendFirst);
        #[cfg(feature = "rocksdb")]
        add(&[Tier::Moka, Tier::Redb, Tier::Rocksdb], write, ReadPolicy::FrontendFirst);
    }
    stacks
}
