//! Takes the evidence that the core asks for, and saves it.
//!
//! Each part has a thread of its own, which ends with it: a read of `/proc` can hang with the process
//! that it reads of, a disk can hang too, and neither may hold up the engine, a task, or the end of the
//! supervisor. A few at a time; who has to wait longer than its time allows fails.

mod command;
mod folder;

pub(super) use command::{Errand, prepare};

use super::lock::lock;
use super::message::Message;
use super::tail::Tail;
use crate::core::evidence::{Captured, Growth, Inquiry, Part, Scene};
use crate::core::{Event, WorkerId};
use crate::linux::evidence::{Budget, Look, growth};
use crate::linux::procfs::Procfs;
use crate::linux::tree::Tree;
use crate::store::{Draft, Locker, Sealed};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Looks, commands and baselines at once.
const AT_ONCE: usize = 4;
/// How long a baseline may take: that of a worker in good order is quick.
const BASELINE: Duration = Duration::from_secs(2);
/// How long the last words of a worker that ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Of the time for a look, what is left for saving it.
const SAVING: u32 = 4;

/// What a look is compared with, and since when.
pub(super) type Baseline = Arc<Mutex<Option<(Instant, Look)>>>;

/// What the cgroups of a worker count, by folder and file.
type Counters = BTreeMap<PathBuf, BTreeMap<String, String>>;

/// The worker that an inquiry is about.
pub(super) struct Subject {
    pub pid: i32,
    pub tree: Arc<Mutex<Tree>>,
    pub tail: Arc<Tail>,
    pub baseline: Baseline,
    /// The newest look that was taken before one was asked for.
    pub last_look: Baseline,
}

/// Takes evidence.
#[derive(Clone)]
pub(super) struct Collector {
    locker: Arc<Locker>,
    procfs: Procfs,
    events: mpsc::Sender<Message>,
    permits: Arc<Semaphore>,
}

/// The file `look.json`, or `remains.json` with a look from before, where there is one.
#[derive(Serialize)]
struct Told<'a> {
    worker: String,
    incident: &'a str,
    scene: &'a Scene,
    /// How old the look is that `grew` compares with.
    baseline_age_s: Option<u64>,
    /// How old the look is; none for one that was taken for this.
    #[serde(skip_serializing_if = "Option::is_none")]
    look_age_s: Option<u64>,
    grew: &'a [Growth],
    #[serde(flatten)]
    look: Option<&'a Look>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroups: Option<Counters>,
}

impl Collector {
    pub fn new(locker: Locker, procfs: Procfs, events: mpsc::Sender<Message>) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Self { locker: Arc::new(locker), procfs, events, permits }
    }

    /// Keeps so many bytes from the next part on.
    pub fn set_keep(&self, bytes: u64) {
        self.locker.set_keep(bytes);
    }

    /// Looks at a worker, or at what is left of it; the answer comes as a message.
    pub fn take(&self, inquiry: Inquiry, subject: Subject) {
        let this = self.clone();
        tokio::spawn(async move {
            let asked = Instant::now();
            let mut counters = None;
            if inquiry.part == Part::Remains {
                // The cgroup goes with the worker's last process: at once.
                let baseline = Arc::clone(&subject.baseline);
                let read = spawn_blocking(move || {
                    lock(&baseline).as_ref().map(|(_, then)| Look::counters_of(then))
                });
                counters = read.await.ok().flatten();
                subject.tail.ended(LAST_WORDS).await;
            }
            this.spawn(inquiry, move |this, inquiry| this.look(inquiry, &subject, counters, asked))
                .await;
        });
    }

    /// Notes what the worker is like in good order.
    pub fn take_baseline(&self, worker: WorkerId, subject: Subject) {
        self.note(worker, subject, |subject, look| {
            *lock(&subject.baseline) = Some((Instant::now(), look.into_baseline()));
        });
    }

    /// Notes what a suspect is like.
    pub fn take_look(&self, worker: WorkerId, subject: Subject) {
        self.note(worker, subject, |subject, look| {
            *lock(&subject.last_look) = Some((Instant::now(), look));
        });
    }

    fn note(
        &self,
        worker: WorkerId,
        subject: Subject,
        keep: impl FnOnce(&Subject, Look) + Send + 'static,
    ) {
        let this = self.clone();
        tokio::spawn(async move {
            // One that has to wait for so long is not worth it.
            let permit = timeout(BASELINE, Arc::clone(&this.permits).acquire_owned()).await;
            let Ok(Ok(permit)) = permit else { return };
            let spawned = thread(move || {
                let _permit = permit;
                let look = this.look_at(&subject, BASELINE);
                keep(&subject, look);
            });
            if let Err(error) = spawned {
                tracing::debug!(%worker, %error, "the worker is not looked at");
            }
        });
    }

    /// Runs the command; the answer comes as a message.
    pub fn run(&self, inquiry: Inquiry, errand: Errand) {
        let this = self.clone();
        tokio::spawn(async move {
            match errand.begin().await {
                Ok(running) => {
                    this.spawn(inquiry, move |this, inquiry| {
                        let mut draft = this.draft(inquiry)?;
                        let (begun, problem) = running.finish(&mut draft)?;
                        let sealed = draft.seal().map_err(saving)?;
                        Ok(captured(sealed, begun, problem))
                    })
                    .await;
                }
                Err(error) => this.answer(inquiry, Err(error)).await,
            }
        });
    }

    /// Does it on a thread of its own, when it is its turn.
    async fn spawn(
        &self,
        inquiry: Inquiry,
        work: impl FnOnce(&Self, &Inquiry) -> Result<Captured, String> + Send + 'static,
    ) {
        let turn = timeout(inquiry.within, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = turn else {
            let error = "too much other evidence was being taken".to_owned();
            return self.answer(inquiry, Err(error)).await;
        };
        let (this, asked) = (self.clone(), inquiry.clone());
        let spawned = thread(move || {
            let _permit = permit;
            let outcome = work(&this, &inquiry);
            let _ = this.events.blocking_send(event(inquiry, outcome).into());
        });
        if let Err(error) = spawned {
            self.answer(asked, Err(format!("no thread for it: {error}"))).await;
        }
    }

    async fn answer(&self, inquiry: Inquiry, outcome: Result<Captured, String>) {
        let _ = self.events.send(event(inquiry, outcome).into()).await;
    }

    fn draft(&self, inquiry: &Inquiry) -> Result<Draft<'_>, String> {
        self.locker.draft(&inquiry.incident, inquiry.worker, inquiry.part).map_err(saving)
    }

    fn look_at(&self, subject: &Subject, within: Duration) -> Look {
        let budget = Budget::of(within);
        let mut members = lock(&subject.tree).members();
        members.sort_by_key(|id| id.pid.as_raw() != subject.pid);
        Look::take(&self.procfs, &members, budget)
    }

    fn look(
        &self,
        inquiry: &Inquiry,
        subject: &Subject,
        cgroups: Option<Counters>,
        asked: Instant,
    ) -> Result<Captured, String> {
        let baseline = lock(&subject.baseline).clone();
        let within = inquiry.within.saturating_sub(asked.elapsed());
        let fresh = (inquiry.part == Part::Look)
            .then(|| self.look_at(subject, within - within / SAVING))
            .filter(|look| !look.processes.is_empty());
        let too_late = inquiry.part == Part::Look && fresh.is_none();
        let (look, look_age) = match fresh {
            Some(look) => (Some(look), None),
            None => {
                let before = lock(&subject.last_look).clone();
                let before = before.filter(|(_, look)| !look.processes.is_empty());
                before.map(|(at, look)| (look, at.elapsed())).unzip()
            }
        };
        let compared = look.as_ref().zip(baseline.as_ref());
        let grew = compared.map(|(now, (_, then))| growth(then, now)).unwrap_or_default();
        let baseline_age = compared.map(|(_, (at, _))| at.elapsed());
        let told = Told {
            worker: inquiry.worker.to_string(),
            incident: &inquiry.incident.0,
            scene: &inquiry.scene,
            baseline_age_s: baseline_age.map(|age| age.as_secs()),
            look_age_s: look_age.map(|age| age.as_secs()),
            grew: &grew,
            look: look.as_ref(),
            cgroups,
        };
        let text = serde_json::to_vec_pretty(&told).map_err(|error| saving(error.into()))?;
        let mut draft = self.draft(inquiry)?;
        draft.write(&format!("{}.json", inquiry.part), &text).map_err(saving)?;
        let output = subject.tail.text();
        if !output.is_empty() {
            draft.write("output.log", &output).map_err(saving)?;
        }
        let problem = look.filter(|look| !look.incomplete.is_empty());
        let problem = problem.map(|look| format!("not all of it: {}", look.incomplete.join(", ")));
        let sealed = draft.seal().map_err(saving)?;
        let captured = captured(sealed, asked, problem);
        Ok(Captured { grew, baseline_age, look_age, too_late, ..captured })
    }
}

fn captured(sealed: Sealed, begun: Instant, problem: Option<String>) -> Captured {
    let Sealed { files, bytes, removed } = sealed;
    let took = begun.elapsed();
    Captured { files, bytes, took, removed, problem, ..Captured::default() }
}

fn event(inquiry: Inquiry, outcome: Result<Captured, String>) -> Event {
    let Inquiry { worker, incident, part, .. } = inquiry;
    Event::EvidenceCaptured { worker, incident, part, outcome }
}

fn saving(error: io::Error) -> String {
    format!("cannot write beside the store: {error}")
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("stanch-evidence".into()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::IncidentId;
    use crate::linux::procfs::ProcessId;
    use crate::linux::tree::Orphans;
    use crate::runtime::output::Stream;
    use crate::store::kept;

    /// The kill at the hard limit overtook the look for the soft one.
    #[tokio::test]
    async fn a_look_that_comes_too_late_saves_what_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("shop.db");
        let procfs = Procfs::default();
        // Its pid is somebody else's by now.
        let gone = ProcessId { pid: nix::unistd::getpid(), start_time_ticks: 1 };
        let orphans = Orphans::default();
        let tree = Tree::new(procfs.clone(), orphans, gone, "STANCH_TEST=gone".to_owned(), None);
        let tail = Tail::new(3);
        tail.writer().push(Stream::Stderr, b"cannot allocate");
        let subject = Subject {
            pid: gone.pid.as_raw(),
            tree: Arc::new(Mutex::new(tree)),
            tail,
            baseline: Arc::default(),
            last_look: Arc::default(),
        };
        let (events, mut answers) = mpsc::channel(1);
        let collector = Collector::new(Locker::new(&store, 1 << 20), procfs, events);
        let inquiry = Inquiry {
            worker: WorkerId::new(0, 1),
            incident: IncidentId("X".to_owned()),
            part: Part::Look,
            within: Duration::from_secs(60),
            scene: Scene::default(),
        };
        collector.take(inquiry, subject);
        let Some(Message::Event(Event::EvidenceCaptured { outcome, .. })) = answers.recv().await
        else {
            panic!("no answer");
        };
        let captured = outcome.unwrap();
        assert!(captured.too_late && captured.baseline_age.is_none(), "{captured:?}");
        let kept = kept(&store).unwrap();
        let files: Vec<&str> = kept[0].files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(files, ["look.json", "output.log"]);
    }
}
