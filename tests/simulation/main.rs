//! The whole supervisor in a simulated world: a fake clock, fake workers and injected faults, all
//! from one seed. A seed that breaks an invariant is printed; `STANCH_SEED=N` runs it alone.

mod alerts;
mod calm;
mod deploys;
mod hooks;
mod incidents;
mod invariants;
mod ladder;
mod ledger;
mod long;
mod random;
mod releases;
mod world;

use stanch::core::hooks::Hook;
use stanch::core::reload::{Change, Difference, Holds, Reconfiguration, Reload, Start, Then};
use stanch::core::{AlertRule, Command, Kind, LeakAction, LeakingRelease, Refusal, Settings, Slot};
use std::time::Duration;
use world::World;

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("STANCH_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}

/// Settings drawn from the seed.
fn settings(seed: u64) -> Settings {
    let mut random = random::Random::new(seed ^ 0x5e77);
    let mut settings = Settings { workers: 1 + random.below(6) as u32, ..Settings::default() };
    settings.ready_timeout = Duration::from_secs(5 + random.below(20));
    settings.health.failures = random.below(4) as u32;
    settings.health.watchdog =
        random.chance(0.3).then(|| Duration::from_millis(1500 + random.below(8000)));
    settings.rolling.surge = random.chance(0.7);
    settings.rolling.beside = settings.rolling.surge || !seed.is_multiple_of(3);
    settings.rolling.slow_start = Duration::from_millis(500 * random.below(5));
    settings.rolling.max_unavailable =
        if settings.rolling.surge { random.below(2) as u32 } else { 1 };
    settings.rolling.cooldown = Duration::from_secs(random.below(30));
    settings.rolling.drain_timeout = Duration::from_secs(1 + random.below(20));
    settings.rolling.max_age =
        random.chance(0.3).then(|| Duration::from_secs(120 + random.below(600)));
    settings.restart.restarts = 1 + random.below(6) as u32;
    let actions = [LeakAction::Restart, LeakAction::Alert, LeakAction::Off];
    settings.leak.action = actions[random.below(3) as usize];
    settings.memory.soft_limit_kib = random.chance(0.8).then_some(200 * 1024);
    settings.memory.hard_limit_kib = random.chance(0.5).then_some(300 * 1024);
    settings.memory.total_limit_kib = random.chance(0.5).then_some(350 * 1024);
    settings.alerts = alerts::rules(&mut random);
    settings.evidence.command_timeout =
        random.chance(0.5).then(|| Duration::from_secs(1 + random.below(60)));
    settings.hooks.set = Hook::ALL.iter().copied().filter(|_| random.chance(0.3)).collect();
    settings.hooks.timeout = Duration::from_secs(1 + random.below(20));
    settings.memory.host_kib = random.chance(0.5).then_some(2_000_000);
    if random.chance(0.5) {
        settings.leaking_release = LeakingRelease::RollBack;
    }
    settings
}

/// Another configuration, as it comes from a file, or an error in it. Who is told of alerts stays.
fn reload(random: &mut random::Random, alerts: &[AlertRule]) -> Reload {
    let found = if random.chance(0.8) {
        let seed = random.below(u64::MAX);
        let release = Some(format!("{seed:x}"));
        let settings = Settings { alerts: alerts.to_vec(), release, ..settings(seed) };
        let workers = random.chance(0.5).then_some(settings.workers);
        let text = "app.release".to_owned();
        let difference = Difference(vec![Change { holds: Holds::InNewWorkers, text }]);
        let [start, start_before] = [0.8, 0.8]
            .map(|part| if random.chance(part) { Start::Otherwise } else { Start::Alike });
        let proof = Duration::from_secs(10 + random.below(60));
        let found = Reconfiguration { settings, workers, difference, start, start_before, proof };
        Ok(Box::new(found))
    } else {
        Err(Refusal::Wrong("an error".to_owned()))
    };
    let then = [Then::Keep, Then::Keep, Then::Roll, Then::Deploy, Then::Deploy];
    Reload { found, then: then[random.below(5) as usize] }
}

/// An operator comes by who may want something. Gives what was drawn, from 7 to 15 for what only some worlds
/// know.
fn meddle(world: &mut World, operator: &mut random::Random, workers: u32) -> u64 {
    let slot = Slot(operator.below(u64::from(workers) + 1) as u32);
    let drawn = operator.below(16);
    match drawn {
        0 => world.command(Command::Restart { slot: None }),
        1 => world.command(Command::Restart { slot: Some(slot) }),
        2 => world.command(Command::Drain { slot }),
        3 => world.command(Command::Scale { workers: operator.below(8) as u32 }),
        4 => world.command(Command::Pause),
        5 | 6 => world.command(Command::Resume),
        _ => {}
    }
    drawn
}

/// Runs a world for a quarter of an hour of its time, with an operator who meddles, then stops it.
fn run(seed: u64) -> World {
    let settings = settings(seed);
    let (workers, alerts) = (settings.workers, settings.alerts.clone());
    let mut world = World::new(seed, settings);
    world.start();
    let mut operator = random::Random::new(seed ^ 0x09e7);
    let mut on_call = random::Random::new(seed ^ 0xca11);
    for _ in 0..15 {
        world.run_for(Duration::from_secs(60));
        if on_call.chance(0.2) {
            world.command(Command::Acknowledge { incident: "last".to_owned(), by: None });
        }
        if let 7 | 8 = meddle(&mut world, &mut operator, workers) {
            world.command(Command::Reload(reload(&mut operator, &alerts)));
        }
    }
    world.command(Command::Stop);
    if operator.chance(0.3) {
        world.command(Command::Stop);
    }
    world.run_for(Duration::from_secs(600));
    world
}

#[test]
fn no_seed_breaks_an_invariant() {
    let (mut below_ms, mut refused) = (0, 0);
    for seed in seeds(2_000) {
        let world = run(seed);
        world.check_end();
        let told = world.told();
        below_ms += told[0];
        refused += told[1];
    }
    let few = below_ms < 1_000_000 || refused < 1_000;
    assert!(!few || seeds(2).len() == 1, "hardly anything: {below_ms} ms, {refused}");
}

/// The same, with supervisors that die again and again.
fn run_deadly(seed: u64) -> World {
    let settings = settings(seed);
    let alerts = settings.alerts.clone();
    let mut world = World::new(seed, settings);
    world.start();
    let mut fate = random::Random::new(seed ^ 0xdead);
    for _ in 0..20 {
        let wanted = Duration::from_millis(fate.below(90_000));
        match fate.below(5) {
            0 => world.command(Command::Restart { slot: None }),
            1 => world.command(Command::Drain { slot: Slot(fate.below(3) as u32) }),
            2 => world.command(Command::Reload(reload(&mut fate, &alerts))),
            _ => {}
        }
        world.run_for(wanted);
        world.doom();
        if fate.chance(0.3) {
            world.command(Command::Restart { slot: None });
        }
        if fate.chance(0.1) && !world.is_dead() {
            world.command(Command::Stop);
        }
        world.run_for(Duration::from_secs(600));
        if world.is_dead() {
            world.reborn();
        }
        if world.is_finished() {
            return world;
        }
    }
    world.spare();
    world.run_for(Duration::from_secs(300));
    world.command(Command::Stop);
    world.run_for(Duration::from_secs(600));
    world
}

#[test]
fn no_death_of_the_supervisor_breaks_an_invariant() {
    let mut recovered = 0;
    for seed in seeds(500) {
        let world = run_deadly(seed);
        world.check_end();
        recovered += world.kinds().get(&Kind::SupervisorRecovered).copied().unwrap_or(0);
    }
    assert!(recovered > 500 || seeds(2).len() == 1, "they die too rarely: {recovered}");
}

/// The same, with programs that take each other's place; some die all the same.
fn run_upgraded(seed: u64) -> World {
    let settings = settings(seed);
    let workers = settings.workers;
    let mut world = World::new(seed, settings);
    world.start();
    let mut operator = random::Random::new(seed ^ 0x0b9e);
    for _ in 0..15 {
        world.run_for(Duration::from_millis(operator.below(90_000)));
        let slot = Slot(operator.below(u64::from(workers) + 1) as u32);
        match operator.below(8) {
            0 => world.command(Command::Restart { slot: None }),
            1 => world.command(Command::Restart { slot: Some(slot) }),
            2 => world.command(Command::Drain { slot }),
            3 => world.command(Command::Pause),
            4 | 5 => world.command(Command::Resume),
            _ => {}
        }
        let tried = match operator.chance(0.9) {
            true => Ok("2".to_owned()),
            false => Err("it does not start".to_owned()),
        };
        world.command(Command::Upgrade { tried });
        if operator.chance(0.1) {
            world.doom();
            world.run_for(Duration::from_secs(600));
            world.spare();
            if world.is_dead() {
                world.reborn();
            }
        }
    }
    world.command(Command::Stop);
    world.run_for(Duration::from_secs(600));
    world
}

#[test]
fn no_upgrade_breaks_an_invariant() {
    let mut upgraded = 0;
    for seed in seeds(200) {
        let world = run_upgraded(seed);
        world.check_end();
        upgraded += world.kinds().get(&Kind::SupervisorUpgraded).copied().unwrap_or(0);
    }
    assert!(upgraded > 1_000 || seeds(2).len() == 1, "most should come to it: {upgraded}");
}

#[test]
fn the_worlds_are_not_boring() {
    let mut seen = std::collections::BTreeMap::<String, u64>::new();
    for seed in 0..300 {
        for (kind, count) in run(seed).kinds() {
            *seen.entry(kind.to_string()).or_default() += count;
        }
    }
    for kind in [
        "worker_crashed",
        "worker_hung",
        "worker_held",
        "worker_start_failed",
        "worker_retired",
        "memory_soft_limit",
        "memory_hard_limit",
        "memory_oom_killed",
        "memory_total_limit",
        "host_memory_pressure",
        "leak_confirmed",
        "roll_finished",
        "roll_aborted",
        "drain_cut_connections",
        "evidence_captured",
        "hook_failed",
        "incident_resolved",
        "incident_acknowledged",
        "alert_sent",
        "alert_failed",
        "config_reloaded",
        "config_refused",
        "deploy_started",
        "deploy_finished",
        "release_rolled_back",
        "supervisor_stopped",
    ] {
        assert!(seen.get(kind).is_some_and(|count| *count > 10), "{kind} is rare: {seen:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    assert_eq!(run(7).kinds(), run(7).kinds());
}
