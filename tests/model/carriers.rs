//! Connections that stay open: what comes on them, and what becomes of it.

use bivouac_proxy::activity::gate::Raised;

use crate::actions::NOW;
use crate::world::{Fault, Message, Proxy, Request, World};

impl World {
    /// Its answer has begun and goes on.
    pub(crate) fn carry(&mut self, p: usize, n: usize) {
        let Proxy { gate, requests, .. } = &mut self.proxies[p];
        if let Request::Admitted(generation) = requests[n] {
            gate.hush(NOW);
            requests[n] = Request::Carrying(generation);
        }
    }

    /// Application bytes have come.
    pub(crate) fn bytes(&mut self, p: usize, n: usize, left_out: Option<Fault>) {
        self.left.bytes -= 1;
        self.pass(p, n, left_out);
    }

    /// What was passed has been taken.
    pub(crate) fn take(&mut self, p: usize, n: usize) {
        let Proxy { gate, requests, .. } = &mut self.proxies[p];
        if let Some(generation) = requests[n].carries() {
            if requests[n] == Request::Moving(generation) {
                gate.hush(NOW);
            }
            requests[n] = Request::Carrying(generation);
        }
    }

    /// The fence at which bytes wait has gone, or its generation is over.
    pub(crate) fn ask_again(&mut self, p: usize, n: usize, left_out: Option<Fault>) {
        self.hear_of_the_end(p);
        self.proxies[p].gate.stop_waiting();
        self.pass(p, n, left_out);
    }

    /// The generation is over: so is its connection.
    pub(crate) fn cut(&mut self, p: usize, n: usize) {
        let Proxy { gate, requests, .. } = &mut self.proxies[p];
        match requests[n] {
            Request::Moving(_) => gate.leave(NOW),
            Request::HeldBytes(_) => {
                gate.stop_waiting();
                gate.leave_carrier(NOW);
            }
            _ => gate.leave_carrier(NOW),
        }
        requests[n] = Request::Answered;
    }

    /// The client closes it.
    pub(crate) fn leave(&mut self, p: usize, n: usize) {
        let Proxy { gate, requests, .. } = &mut self.proxies[p];
        gate.leave_carrier(NOW);
        requests[n] = Request::Answered;
    }

    fn pass(&mut self, p: usize, n: usize, left_out: Option<Fault>) {
        let proxy = &mut self.proxies[p];
        let Some(generation) = proxy.requests[n].carries() else { return };
        let slips = match left_out {
            Some(Fault::BytesAsk) => proxy.gate.fenced().is_some(),
            Some(Fault::HeldBytesAskAgain) => matches!(proxy.requests[n], Request::HeldBytes(_)),
            _ => false,
        };
        if slips {
            proxy.requests[n] = Request::Slipped(generation);
            return;
        }
        match proxy.gate.raise(generation, NOW) {
            Raised::Passed if left_out == Some(Fault::BytesUntilTaken) => {
                proxy.gate.hush(NOW);
                proxy.requests[n] = Request::Slipped(generation);
            }
            Raised::Passed => proxy.requests[n] = Request::Moving(generation),
            Raised::Held(fenced) => {
                proxy.requests[n] = Request::HeldBytes(generation);
                if let Some((r, _)) = proxy.fenced_by {
                    self.reply(p, r, Message::Knock(fenced));
                }
            }
            Raised::Over => {
                proxy.gate.leave_carrier(NOW);
                proxy.requests[n] = Request::Answered;
            }
        }
    }
}
