//! The shop in one process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use service::{Config, SESSION, ServiceError, Shop, parts};
use tiered::adapter::{Stamp, VersionMint};
use tiered::testing::ManualClock;
use tiered::{Error, ErrorKind, Timestamp};

struct Opened {
    _folder: tempfile::TempDir,
    config: Config,
    clock: Arc<ManualClock>,
    shop: Shop,
}

async fn open() -> Opened {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
    let config = Config::new(folder.path()).stamp(stamp);
    let shop = Shop::open(&config).await.expect("opens");
    Opened { _folder: folder, config, clock, shop }
}

#[tokio::test]
async fn a_session_expires() {
    let Opened { shop, clock, .. } = &open().await;
    shop.sign_in("t1", "ada").await.expect("signed in");
    assert_eq!(shop.user("t1").await.expect("reads").as_deref(), Some("ada"));
    let taken = shop.sign_in("t1", "eve").await.expect_err("the token is taken");
    assert!(matches!(taken, ServiceError::Store(error) if error.kind() == ErrorKind::PreconditionFailed));
    clock.advance(SESSION / 2);
    assert!(shop.rename("t1", "ada-lovelace").await.expect("renamed"));
    clock.advance(SESSION / 2 - Duration::from_millis(1));
    assert_eq!(shop.user("t1").await.expect("reads").as_deref(), Some("ada-lovelace"));
    clock.advance(Duration::from_millis(1));
    assert_eq!(shop.user("t1").await.expect("reads"), None, "renaming did not make it longer");
    assert!(!shop.rename("t1", "eve").await.expect("nothing to rename"));
    shop.shut_down().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_buyers_never_oversell() {
    let Opened { shop, config, .. } = &open().await;
    shop.deliver("apple", 30).await.expect("delivered");
    let bought = join_all((0..50).map(|_| shop.take("apple"))).await;
    assert_eq!(bought.iter().filter(|result| result.is_ok()).count(), 30);
    for result in bought {
        if let Err(error) = result {
            assert!(matches!(error, ServiceError::SoldOut { left: 0, .. }), "{error}");
        }
    }
    assert!(matches!(shop.stock("pear").await, Err(ServiceError::Unknown(_))));
    assert!(matches!(shop.stock("../sessions/t1").await, Err(ServiceError::Name(_))));
    shop.shut_down().await.expect("closes");
    let again = Shop::open(config).await.expect("opens again");
    assert_eq!(again.stock("apple").await.expect("reads"), 0);
    again.shut_down().await.expect("closes");
}

#[tokio::test]
async fn an_order_is_all_or_nothing() {
    let Opened { shop, .. } = &open().await;
    shop.order("ada", 1, "apple").await.expect("placed");
    shop.order("ada", 2, "pear").await.expect("placed");
    // The number is taken: nothing of it has happened.
    shop.order("eve", 2, "apple").await.expect_err("refused");
    assert_eq!(shop.orders_of("ada").await.expect("lists"), [1, 2]);
    assert_eq!(shop.orders_of("eve").await.expect("lists"), [0_u32; 0]);
    shop.shut_down().await.expect("closes");
}

#[tokio::test]
async fn documents_are_stored_and_served_in_parts() {
    let Opened { shop, config, .. } = &open().await;
    let body: Vec<Bytes> = (0..40_u8).map(|part| Bytes::from(vec![part; 50_000])).collect();
    assert_eq!(shop.upload("report", parts(body.clone())).await.expect("stored"), 2_000_000);
    // One that breaks off replaces nothing.
    let broken = stream::iter([
        Ok(Bytes::from_static(b"half")),
        Err(Error::new(ErrorKind::Unavailable, "the client went away")),
    ]);
    shop.upload("report", broken.boxed()).await.expect_err("broke off");
    shop.shut_down().await.expect("closes");
    let again = Shop::open(config).await.expect("opens again");
    let read: Vec<Bytes> = again.download("report").await.expect("found").try_collect().await.expect("reads");
    assert_eq!(read.concat(), body.concat());
    assert!(matches!(again.download("absent").await, Err(ServiceError::Unknown(_))));
    again.shut_down().await.expect("closes");
    let closed = again.take("apple").await.expect_err("closed");
    assert!(matches!(closed, ServiceError::Store(error) if error.kind() == ErrorKind::Closed));
}
