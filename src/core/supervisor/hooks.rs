//! When the operator's commands are run, and what comes of them. See [`core::hooks`](super::super::hooks).

use super::super::hooks::{Call, Hook};
use super::super::{Action, Figures, Kind, Now, WorkerId};
use super::{About, Supervisor};

impl Supervisor {
    /// Has a hook run for a worker that is known to others, or becomes so.
    pub(super) fn call(&mut self, id: WorkerId, hook: Hook) {
        let settings = &self.settings.hooks;
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.introduced) else { return };
        if settings.set.contains(&hook) {
            let (pid, within) = (worker.pid, settings.timeout);
            self.hooks.add(Call { worker: id, pid, hook, within });
        }
    }

    pub(super) fn on_hook_ended(
        &mut self,
        now: Now,
        id: WorkerId,
        hook: Hook,
        outcome: Result<(), String>,
    ) {
        if !self.hooks.ended(id, hook) {
            return;
        }
        if let Err(error) = outcome {
            let about = About::Worker(id, Some(hook.as_str()));
            let reason = format!("hooks.{hook} of worker {id}: {error}; supervision goes on");
            self.record(now, Kind::HookFailed, about, None, &reason, Figures::new());
        }
    }

    pub(super) fn settle_hooks(&mut self, now: Now) {
        for Call { worker, hook, .. } in self.hooks.overdue(now.mono) {
            let error = "no word of it in its time and 1 s more".to_owned();
            self.on_hook_ended(now, worker, hook, Err(error));
        }
        let begun = self.hooks.begin(now.mono);
        self.actions.extend(begun.into_iter().map(Action::RunHook));
    }
}
