//! What a launch costs; printed, not judged:
//! `cargo test --release --test launch -- --ignored --nocapture cost`.

use crate::harness::*;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use stanch::linux::launch::Environment;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 300;

fn summary(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!("{name}: least {:?}, median {:?}", times[0], times[times.len() / 2]);
}

#[tokio::test]
#[ignore = "a measurement"]
async fn cost() {
    // As large as a supervisor that has seen something; what makes fork slow.
    let ballast = vec![1_u8; 100 << 20];
    let mut plan = plan("/bin/true", &[]);
    plan.environment = Environment::inherited();
    for number in 0..40 {
        plan.environment.set(format!("VARIABLE_{number}"), "x".repeat(100));
    }
    let (mut plain, mut launched, mut started) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let mut command = Command::new("/bin/true");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap().wait().unwrap();
        plain.push(begin.elapsed());

        let begin = Instant::now();
        let mut launching = spawn();
        started.push(begin.elapsed());
        launching.proceed(&plan, &[]).unwrap();
        until_running(&mut launching).await.unwrap();
        waitpid(Pid::from_raw(launching.pid()), None).unwrap();
        launched.push(begin.elapsed());
    }
    drop(ballast);
    summary("posix_spawn of true until its end", plain);
    summary("a launch of true until its end   ", launched);
    summary("of which until its pid is known  ", started);
}
