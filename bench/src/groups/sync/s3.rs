//! From S3 to a file, beside programs that copy objects into a folder.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use tiered::Store;
use tiered::s3::S3Config;
use tiered_services::{S3_BUCKET, S3_CREDENTIALS, Service};

use super::{fresh, fresh_folder, rate, synced_into};
use crate::groups::{Bench, Findings};
use crate::measure::{self, Measured, Side};
use crate::peers::copiers::{Copier, Endpoint, files_in};
use crate::peers::raw_s3::{PREFIX, RawS3};
use crate::peers::tiered::redb;
use crate::report::{Case, Missing};
use crate::targets;
use crate::workload::{Skew, Workload};

/// Bytes of an object.
const SIZE: usize = 4 << 10;

pub(super) async fn run(bench: &Bench, findings: &mut Findings) -> Result<()> {
    // Of the servers that tests have, the one that keeps objects in files is by far the fastest.
    let Some(url) = Service::S3Fs.url() else {
        let why = format!("{} is not set", Service::S3Fs.variable());
        findings.missing.push(Missing { what: "S3 to redb".to_owned(), why });
        return Ok(());
    };
    let objects = bench.effort.pick(2_000, 10_000);
    let workload = Workload::new(objects, SIZE, Skew::InOrder);
    let raw = RawS3::open(&url).await?;
    raw.fill(&workload).await?;
    let (access, secret) = S3_CREDENTIALS;
    let endpoint = Endpoint {
        url: url.clone(),
        bucket: S3_BUCKET.to_owned(),
        access: access.to_owned(),
        secret: secret.to_owned(),
    };
    let mut sides = Vec::new();
    let mut versions = Vec::new();
    for copier in Copier::ALL {
        match copier.version() {
            Ok(version) if versions.contains(&version) => {}
            Ok(version) => versions.push(version),
            Err(why) => {
                findings.missing.push(Missing { what: copier.name().to_owned(), why });
                continue;
            }
        }
        let endpoint = &endpoint;
        sides.push(Side::new(copier.name(), false, move || {
            let room = fresh_folder(bench);
            Box::pin(async move {
                let room = room?;
                let begun = Instant::now();
                copier.copy(endpoint, PREFIX, &room)?;
                let sample = rate(objects, begun);
                let found = files_in(&room)?;
                ensure!(found == objects as u64, "{found} of {objects} objects were copied");
                Ok(sample)
            })
        }));
    }
    sides.push(Side::new("tiered sync, S3 to redb", true, || {
        let (url, path) = (url.clone(), fresh(bench));
        Box::pin(async move {
            let path = path?;
            // Programs begin from nothing, and so does this.
            let begun = Instant::now();
            let (from, to) = (open(&url).await?, redb(&path).await?);
            let sample = synced_into(&from, &to, objects, begun).await?;
            to.close().await?;
            from.close().await?;
            Ok(sample)
        })
    }));
    let measured = measure::in_cold_turns(&mut sides, bench.effort.long_rounds()).await?;
    drop(sides);
    raw.remove(&workload).await?;
    let case = Case {
        panel: "objects a second, from S3",
        name: &format!("{objects} objects of 4 KiB"),
        unit: "/s",
        more_is_better: true,
        reference: fastest_peer(&measured),
        target: targets::COPIERS,
    };
    findings.rows.extend(case.rows(&measured));
    if !versions.is_empty() {
        let text = "compared by the fastest of them; they begin from nothing, as the sync does, which opens both stores";
        findings.notes.push(format!("{}: {text}.", versions.join(", ")));
    }
    Ok(())
}

async fn open(url: &str) -> Result<Arc<dyn Store>> {
    let (access, secret) = S3_CREDENTIALS;
    let config = S3Config::new(S3_BUCKET).endpoint(url).credentials(access, secret, None);
    Ok(Arc::new(config.prefix(PREFIX).open().await?))
}

/// The target is to be as fast as each of them.
fn fastest_peer(measured: &[Measured]) -> &str {
    let peers = measured.iter().filter(|side| !side.is_ours);
    let fastest = peers.max_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
    fastest.map_or("", |side| side.side.as_str())
}
