//! The plaintext of a record.

use bytes::BytesMut;
use peerage_wire::frame::{FrameRef, Frames, put_control, put_data, within_limits};

/// Reads the bytes as frames. What is read can be written, and is the same when it is read again.
pub fn frames(data: &[u8]) {
    let mut count = 0;
    for frame in Frames::new(data) {
        count += 1;
        assert!(count <= data.len(), "more frames than bytes");
        let Ok(frame) = frame else { return };
        let mut written = BytesMut::new();
        match &frame {
            FrameRef::Data { header, payload } => put_data(&mut written, *header, payload),
            FrameRef::Control(kind) => {
                assert_eq!(*within_limits(kind), *kind, "a control beyond its limits was read");
                put_control(&mut written, kind);
            }
            FrameRef::UnknownControl => continue,
        }
        let mut again = Frames::new(&written);
        match (again.next(), frame) {
            (Some(Ok(FrameRef::Data { header, payload })), FrameRef::Data { header: was, payload: sent }) => {
                assert_eq!((header, payload), (was, sent));
            }
            (Some(Ok(FrameRef::Control(kind))), FrameRef::Control(was)) => assert_eq!(kind, was),
            (other, was) => panic!("{was:?} is read as {other:?} when it is written"),
        }
        assert!(again.next().is_none());
    }
}
