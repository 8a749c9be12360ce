//! How faces speak to the engine.

use crate::core::{Command, Reply};
use crate::wire::Status;
use std::os::fd::OwnedFd;
use tokio::sync::{mpsc, oneshot};

/// A question to the engine.
#[derive(Debug)]
pub enum Request {
    /// The state of everything.
    Status(oneshot::Sender<Status>),
    /// To read the configuration again, and with `roll` to replace all workers afterwards; the answer
    /// comes when it is done.
    Reload {
        /// Who asks, for the audit log: `uid 0`.
        by: String,
        /// Whether all workers are replaced.
        roll: bool,
        /// Gets the outcome; dropping the receiver does not take the wish back.
        reply: oneshot::Sender<Reply>,
    },
    /// To have the program that is now where this one came from take its place.
    Upgrade {
        /// Who asks, for the audit log: `uid 0`.
        by: String,
        /// Where the successor shall answer; without one, nobody waits for it.
        connection: Option<OwnedFd>,
        /// Gets the refusal; dropped when it is up to the successor to answer.
        reply: oneshot::Sender<Reply>,
    },
    /// An operator's command; the answer comes when it is done.
    Command {
        /// Who asks, for the audit log: `uid 0`.
        by: String,
        /// What is asked.
        command: Command,
        /// Gets the outcome; dropping the receiver does not take the command back.
        reply: oneshot::Sender<Reply>,
    },
}

/// The engine has ended and answers no more.
#[derive(Debug, thiserror::Error)]
#[error("the supervisor has ended")]
pub struct Ended;

/// A cheap way to ask the engine; clones share one bounded queue.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
}

impl Handle {
    /// A handle and the queue that the engine reads.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(capacity);
        (Self { requests }, receiver)
    }

    /// The state of everything, as of now.
    pub async fn status(&self) -> Result<Status, Ended> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Status(reply)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// Hands a command over; the receiver gets the outcome when it is done. Dropping the receiver
    /// does not take the command back.
    pub async fn submit(
        &self,
        by: String,
        command: Command,
    ) -> Result<oneshot::Receiver<Reply>, Ended> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Command { by, command, reply };
        self.requests.send(request).await.map_err(|_| Ended)?;
        Ok(answer)
    }

    /// Has the configuration read again, and waits until what follows from that is done.
    pub async fn reload(&self, by: String, roll: bool) -> Result<Reply, Ended> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Reload { by, roll, reply }).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// Has another program take the place of this one. The receiver gets the refusal; when it is closed
    /// without one, the successor answers on the `connection`.
    pub async fn upgrade(
        &self,
        by: String,
        connection: Option<OwnedFd>,
    ) -> Result<oneshot::Receiver<Reply>, Ended> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Upgrade { by, connection, reply };
        self.requests.send(request).await.map_err(|_| Ended)?;
        Ok(answer)
    }

    /// Has a command carried out and waits until it is done.
    pub async fn command(&self, by: String, command: Command) -> Result<Reply, Ended> {
        self.submit(by, command).await?.await.map_err(|_| Ended)
    }
}
