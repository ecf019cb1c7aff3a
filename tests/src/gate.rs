use crossbeam_channel::{Receiver, Sender, bounded};

/// A test's end of a gate.
#[derive(Debug)]
pub struct Gate {
    arrived: Receiver<()>,
    open: Sender<()>,
}

/// The other end: code that a test wants to hold calls [`pass`](Self::pass).
#[derive(Clone, Debug)]
pub struct Visitor {
    arrived: Sender<()>,
    open: Receiver<()>,
}

/// A gate, shut. Dropping the test's end opens it for good.
pub fn gate() -> (Gate, Visitor) {
    let (arrived, arrivals) = bounded(1024);
    let (open, opened) = bounded(1024);
    (Gate { arrived: arrivals, open }, Visitor { arrived, open: opened })
}

impl Gate {
    /// Waits until somebody is at the gate.
    pub fn wait_for_visitor(&self) {
        // An error means that nobody will ever come; what the test checks next will say so.
        let _ = self.arrived.recv();
    }

    /// Lets one visitor through, now or when it comes.
    pub fn let_one_pass(&self) {
        let _ = self.open.send(());
    }
}

impl Visitor {
    /// Says that it is here and waits to be let through.
    pub fn pass(&self) {
        let _ = self.arrived.try_send(());
        let _ = self.open.recv();
    }
}
