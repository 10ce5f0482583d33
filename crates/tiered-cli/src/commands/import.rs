//! `import`.

#[cfg(feature = "git")]
mod git;

use tiered::Schemes;

use crate::arguments::Import;
use crate::exit::Failure;

#[cfg(feature = "git")]
pub(super) async fn run(schemes: &Schemes, what: Import, json: bool) -> Result<u8, Failure> {
    let Import::Git(order) = what;
    git::run(schemes, order, json).await
}

#[cfg(not(feature = "git"))]
pub(super) async fn run(_: &Schemes, _: Import, _: bool) -> Result<u8, Failure> {
    std::future::ready(Err(Failure::Usage(crate::git::LACKING.to_owned()))).await
}
