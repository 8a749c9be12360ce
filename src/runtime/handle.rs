//! How faces speak to the engine.

use crate::core::reload::Then;
use crate::core::{Command, Reply};
use crate::wire::Status;
use std::os::fd::OwnedFd;
use tokio::sync::{mpsc, oneshot};

/// A question to the engine.
#[derive(Debug)]
pub enum Request {
    /// The state of everything.
    Status(oneshot::Sender<Status>),
    /// To read the configuration again; the answer comes when all that follows from it is done.
    Reload {
        /// Who asks, for the audit log: `uid 0`.
        by: String,
        /// What becomes of the workers.
        then: Then,
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

    /// Has the configuration read again; the receiver gets the outcome when what follows from that is done.
    /// Dropping it does not take the wish back.
    pub async fn reload(&self, by: String, then: Then) -> Result<oneshot::Receiver<Reply>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Reload { by, then, reply }).await.map_err(|_| Ended)?;
        Ok(answer)
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
