//! Where WebSocket frames begin and end (RFC 6455, section 5.2): no more than it takes to put one of ours between two
//! of a backend's, and to tell what an application says from pings and pongs.

/// Follows a stream of frames without keeping any of it.
#[derive(Debug, Default)]
pub(super) struct FrameCursor {
    head: Head,
    /// Bytes of the current frame's payload that are still to come.
    payload: u64,
    /// The backend has sent its own close frame: nothing may follow it.
    closed: bool,
}

/// What a piece of a stream consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Carried {
    /// Something of a frame that an application sent: head or payload. Else there were pings, pongs and closes alone.
    pub(super) application: bool,
}

/// As much of a frame's head as has come: two bytes, up to eight of length, four of mask.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; 14],
    have: usize,
}

impl Head {
    /// Bytes that this head has, as far as can be told.
    fn length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let extended = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.bytes[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload(&self) -> u64 {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        match self.bytes[1] & 0x7f {
            126 => big_endian(&self.bytes[2..4]),
            127 => big_endian(&self.bytes[2..10]),
            length => u64::from(length),
        }
    }

    fn opcode(&self) -> u8 {
        self.bytes[0] & 0x0f
    }

    fn is_close(&self) -> bool {
        self.opcode() == 0x8
    }

    fn is_control(&self) -> bool {
        self.opcode() >= 0x8
    }
}

impl FrameCursor {
    /// Goes on by these bytes.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) -> Carried {
        let mut carried = Carried::default();
        while !bytes.is_empty() {
            if self.payload > 0 {
                // The head is that of this frame until the next one's first byte comes.
                carried.application |= !self.head.is_control();
                let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            self.head.bytes[self.head.have] = byte;
            self.head.have += 1;
            carried.application |= !self.head.is_control();
            bytes = rest;
            if self.head.have == self.head.length() {
                self.payload = self.head.payload();
                self.closed |= self.head.is_close();
                self.head.have = 0;
            }
        }
        carried
    }

    /// Whether a frame may stand here.
    pub(super) fn is_between_frames(&self) -> bool {
        self.head.have == 0 && self.payload == 0 && !self.closed
    }
}

/// A server's close frame. `reason` has at most 123 bytes.
pub(crate) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    const LONGEST: usize = 123;
    let reason = &reason.as_bytes()[..reason.len().min(LONGEST)];
    let mut frame = vec![0x88, (2 + reason.len()) as u8];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let mask = if masked { 0x80 } else { 0 };
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(0x88, length + if masked { 4 } else { 0 }));
        frame
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut cursor = FrameCursor::default();
        cursor.advance(&close_frame(1000, "bye"));
        assert!(!cursor.is_between_frames());
    }

    #[test]
    fn a_close_frame_is_one_whole_frame() {
        assert_eq!(close_frame(1001, "idle"), [0x88, 6, 0x03, 0xe9, b'i', b'd', b'l', b'e']);
        assert_eq!(close_frame(1001, &"x".repeat(300)).len(), 127);
    }

    proptest! {
        #[test]
        fn the_cursor_is_between_frames_exactly_at_their_ends(
            lengths in proptest::collection::vec((prop_oneof![0usize..200, 60_000usize..70_000], any::<bool>()), 1..6),
            cuts in proptest::collection::vec(1usize..5_000, 1..20),
        ) {
            let mut stream = Vec::new();
            let mut ends = vec![0];
            for (length, masked) in lengths {
                stream.extend(frame(2, length, masked));
                ends.push(stream.len());
            }
            let mut cursor = FrameCursor::default();
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            while at < stream.len() {
                let next = (at + cuts.next().unwrap()).min(stream.len());
                cursor.advance(&stream[at..next]);
                at = next;
                prop_assert_eq!(cursor.is_between_frames(), ends.contains(&at));
            }
        }

        #[test]
        fn pings_and_pongs_are_no_application_bytes_however_they_are_cut(
            frames in proptest::collection::vec((0u8..16, 0usize..200, any::<bool>()), 1..8),
            cuts in proptest::collection::vec(1usize..40, 1..20),
        ) {
            let (mut stream, mut noisy) = (Vec::new(), Vec::new());
            for (opcode, length, masked) in frames {
                let frame = frame(opcode, length, masked);
                noisy.extend(std::iter::repeat_n(opcode < 8, frame.len()));
                stream.extend(frame);
            }
            let mut cursor = FrameCursor::default();
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            while at < stream.len() {
                let next = (at + cuts.next().unwrap()).min(stream.len());
                let application = cursor.advance(&stream[at..next]).application;
                prop_assert_eq!(application, noisy[at..next].contains(&true));
                at = next;
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            FrameCursor::default().advance(&bytes);
        }
    }

    /// As `arbitrary_bytes_never_panic`, and a cursor says the same however a stream is cut, for as long as
    /// `BIVOUAC_FUZZ_SECONDS` says.
    #[test]
    #[ignore = "runs for as long as it is told to: make fuzz"]
    fn fuzz_frames() {
        let seconds = std::env::var("BIVOUAC_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds.unwrap_or(10));
        let stream = proptest::collection::vec(any::<u8>(), 0..4_000);
        let pieces = proptest::collection::vec(1usize..300, 1..50);
        let mut runner = proptest::test_runner::TestRunner::default();
        while std::time::Instant::now() < until {
            let (bytes, cuts) = (&stream, &pieces).new_tree(&mut runner).map(|tree| tree.current()).unwrap();
            let (mut whole, mut cut, mut at) = (FrameCursor::default(), FrameCursor::default(), 0);
            let mut application = false;
            for length in cuts.iter().cycle().take_while(|_| !bytes.is_empty()) {
                let next = (at + length).min(bytes.len());
                application |= cut.advance(&bytes[at..next]).application;
                at = next;
                if at == bytes.len() {
                    break;
                }
            }
            assert_eq!(whole.advance(&bytes).application, application);
            assert_eq!(whole.is_between_frames(), cut.is_between_frames());
        }
    }
}
