//! The shop as a process: orders come in on standard input, one number a line, and each is answered when it is safe.
//!
//! It ends at the end of its input or on Ctrl-C, after flushing.

use std::process::ExitCode;

use service::{Config, Result, Shop};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: service FOLDER");
        return ExitCode::from(2);
    };
    match serve(&Config::new(folder)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: &Config) -> Result<()> {
    let shop = Shop::open(config).await?;
    let mut lines = BufReader::new(stdin()).lines();
    let mut out = stdout();
    let served = loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            _ = tokio::signal::ctrl_c() => Ok(None),
        };
        // The end of the input, or no one is there any more.
        let Ok(Some(line)) = line else { break Ok(()) };
        let Ok(number) = line.trim().parse() else { continue };
        if let Err(error) = shop.order("ada", number, "apple").await {
            break Err(error);
        }
        let answer = format!("placed {number}\n");
        if out.write_all(answer.as_bytes()).await.is_err() || out.flush().await.is_err() {
            break Ok(());
        }
    };
    // Also after a failure: what was acknowledged is flushed.
    let shut = shop.shut_down().await;
    served.and(shut)
}
