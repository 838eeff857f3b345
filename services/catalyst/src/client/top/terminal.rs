//! The terminal that `top` draws on and hears keys from, which it leaves as it found it.

use std::io::{IsTerminal as _, stdin};

use console::{Key, Term};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// Ends `top`.
pub(super) const QUIT: char = 'q';

/// A terminal until it is dropped.
pub(super) struct Terminal {
    term: Term,
    pressed: mpsc::UnboundedReceiver<Key>,
    /// Before keys were read one by one; none where nobody can press any.
    before: Option<Termios>,
}

impl Terminal {
    /// Reads keys from standard input, if it is a terminal as well.
    pub(super) fn open(term: Term) -> anyhow::Result<Self> {
        let (keys, pressed) = mpsc::unbounded_channel();
        let before = if stdin().is_terminal() {
            let before = tcgetattr(stdin())?;
            read_keys(term.clone(), keys);
            Some(before)
        } else {
            None
        };
        Ok(Self {
            term,
            pressed,
            before,
        })
    }

    pub(super) fn term(&self) -> &Term {
        &self.term
    }

    /// Resolves when a key is pressed.
    pub(super) async fn key(&mut self) -> Key {
        match self.pressed.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whoever waits for a key has changed it, and does not end before it has one.
        if let Some(before) = &self.before
            && let Err(error) = tcsetattr(stdin(), OptionalActions::Now, before)
        {
            tracing::warn!(%error, "the terminal could not be set back: stty sane does it");
        }
        // A terminal that has gone shows nothing.
        let _ = self.term.show_cursor();
    }
}

/// Keys come from a thread of their own: the terminal knows no other way. After the last one it reads no more, since it
/// would change the terminal again.
fn read_keys(term: Term, keys: mpsc::UnboundedSender<Key>) {
    std::thread::spawn(move || {
        while let Ok(key) = term.read_key() {
            let is_last = key == Key::Char(QUIT);
            if keys.send(key).is_err() || is_last {
                return;
            }
        }
    });
}
