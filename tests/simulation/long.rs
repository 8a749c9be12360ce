//! Months: what is due after hours and days (quiet times, escalations, a greatest age, a leak that takes a
//! week), with an operator who comes by every few hours, supervisors that die and are replaced.

use crate::random::Random;
use crate::world::World;
use crate::{meddle, reload, seeds, settings};
use stanch::core::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
/// Between two readings of a worker.
const PACE: Duration = Duration::from_secs(60);

fn run(seed: u64) -> World {
    let mut settings = settings(seed);
    // A worker pings as often as it is read.
    settings.health.watchdog = settings.health.watchdog.map(|_| 3 * PACE);
    settings.rolling.max_age = settings.rolling.max_age.map(|_| 30 * HOUR);
    let (workers, alerts) = (settings.workers, settings.alerts.clone());
    let mut world = World::new(seed, settings).at_pace(PACE);
    world.start();
    let mut operator = Random::new(seed ^ 0x0b5e);
    for _ in 0..30 {
        world.run_for(Duration::from_secs(operator.below(48 * 3600)));
        match meddle(&mut world, &mut operator, workers) {
            7 => world.command(Command::Resume),
            8 => world.command(Command::Acknowledge { incident: "last".to_owned(), by: None }),
            9 => world.command(Command::Upgrade { tried: Ok("2".to_owned()) }),
            10 => {
                let mut reload = reload(&mut operator, &alerts);
                if let Ok(found) = &mut reload.found {
                    found.settings.health.watchdog = None;
                }
                world.command(Command::Reload(reload));
            }
            _ => {}
        }
        if operator.chance(0.3) {
            world.doom();
            world.run_for(HOUR);
            world.spare();
            if world.is_dead() {
                world.reborn();
            }
        }
    }
    world.command(Command::Stop);
    world.run_for(HOUR);
    world
}

#[test]
fn no_month_breaks_an_invariant() {
    for seed in seeds(4) {
        run(seed).check_end();
    }
}

/// `cargo test --test simulation -- --ignored --nocapture` (with the overflow checks of a debug build);
/// `STANCH_HOURS=N` runs fewer, `STANCH_FROM=N` those from this seed on. Each twentieth is told.
#[test]
#[ignore = "a long run"]
fn no_month_of_a_million_hours_breaks_an_invariant() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let hours = number("STANCH_HOURS").unwrap_or(1_000_000);
    let from = number("STANCH_FROM").unwrap_or(0);
    let (next, lived_s) = (AtomicU64::new(from), AtomicU64::new(0));
    let part_s = (hours * 3600 / 20).max(1);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while lived_s.load(Ordering::Relaxed) < hours * 3600 {
                    let world = run(next.fetch_add(1, Ordering::Relaxed));
                    world.check_end();
                    let age_s = world.age().as_secs();
                    let before_s = lived_s.fetch_add(age_s, Ordering::Relaxed);
                    let after_s = before_s + age_s;
                    if before_s / part_s < after_s / part_s {
                        println!("{} hours, seed {}", after_s / 3600, next.load(Ordering::Relaxed));
                    }
                }
            });
        }
    });
    let (worlds, lived_h) = (next.into_inner() - from, lived_s.into_inner() / 3600);
    println!("{worlds} worlds from seed {from} on, {lived_h} hours of their time");
}
