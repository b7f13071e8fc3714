//! Where WebSocket frames begin and end (RFC 6455, section 5.2): no more than it takes to put one of ours between two
//! of a backend's.

/// Follows a stream of frames without keeping any of it.
#[derive(Debug, Default)]
pub(super) struct FrameCursor {
    head: Head,
    /// Bytes of the current frame's payload that are still to come.
    payload: u64,
    /// The backend has sent its own close frame: nothing may follow it.
    closed: bool,
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

    fn is_close(&self) -> bool {
        self.bytes[0] & 0x0f == 0x8
    }
}

impl FrameCursor {
    /// Goes on by these bytes.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            self.head.bytes[self.head.have] = byte;
            self.head.have += 1;
            bytes = rest;
            if self.head.have == self.head.length() {
                self.payload = self.head.payload();
                self.closed |= self.head.is_close();
                self.head.have = 0;
            }
        }
    }

    /// Whether a frame may stand here.
    pub(super) fn is_between_frames(&self) -> bool {
        self.head.have == 0 && self.payload == 0 && !self.closed
    }
}

/// A server's close frame. `reason` has at most 123 bytes.
pub(super) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
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
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            FrameCursor::default().advance(&bytes);
        }
    }
}
