//! What it takes to check a signature alone, and with others: `cargo run --release -p peerage-identity --example signatures`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use peerage_identity::{Check, Identity, verify, verify_all};

const DOMAIN: &str = "example v1";
const ENOUGH: Duration = Duration::from_millis(500);

fn main() {
    println!(
        "µs for each signature over 1 KiB: by one signer, by as many as signatures, and with one in 64 forged"
    );
    for count in [1_usize, 2, 4, 8, 16, 32, 64] {
        let few = per_signature(count, 1, false);
        let many = per_signature(count, count, false);
        let forged = per_signature(count, 1, true);
        println!("{count:>4} together: {few:>6.1} {many:>6.1} {forged:>6.1}");
    }
    println!("one by one: {:>6.1}", alone());
}

fn signed(count: usize, signers: usize) -> Vec<(Identity, Vec<u8>, [u8; 64])> {
    (0..count)
        .map(|at| {
            let identity = Identity::from_seed([(at % signers) as u8 + 1; 32]);
            let message = vec![at as u8; 1024];
            let signature = identity.sign(DOMAIN, &message);
            (identity, message, signature)
        })
        .collect()
}

fn per_signature(count: usize, signers: usize, forge: bool) -> f64 {
    let mut signed = signed(count, signers);
    if forge && let Some((_, message, _)) = signed.last_mut() {
        message.push(0);
    }
    let checks: Vec<Check<'_>> = signed
        .iter()
        .map(|(identity, message, signature)| Check {
            signer: identity.peer_id(),
            domain: DOMAIN,
            message,
            signature,
        })
        .collect();
    measure(count, || drop(black_box(verify_all(black_box(&checks)))))
}

fn alone() -> f64 {
    let signed = signed(64, 1);
    measure(64, || {
        for (identity, message, signature) in &signed {
            let _ = black_box(verify(&identity.peer_id(), DOMAIN, message, signature));
        }
    })
}

fn measure(each: usize, run: impl Fn()) -> f64 {
    let (start, before, mut turns) = (Instant::now(), on_cpu(), 0_usize);
    while start.elapsed() < ENOUGH {
        run();
        turns += 1;
    }
    let spent = on_cpu().zip(before).map_or_else(|| start.elapsed(), |(after, before)| after - before);
    spent.as_secs_f64() * 1e6 / (turns * each) as f64
}

/// What this process has had of the processors, where the system tells: others may be at work, too.
fn on_cpu() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
