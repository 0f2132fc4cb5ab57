//! The calls that return futures of I/O.

use super::*;

calls! {
    "aio::Op::wait" => |c| c.image.aio().flush().wait(),
    "aio::Opening::wait" => |c| c.pool.open("other").start().wait(),
    "aio::Timeout::wait" => |c| c.image.aio().flush().timeout(SHORT).wait(),
    "aio::Aio::compare_and_write" => |c| c.image.aio().compare_and_write(0, block(), block()).timeout(SHORT).wait(),
    "aio::Aio::compare_and_write_vectored" => |c| c.image.aio().compare_and_write_vectored(0, vec![block()], vec![block()]).timeout(SHORT).wait(),
    "aio::Aio::discard" => |c| c.image.aio().discard(0, 4096).timeout(SHORT).wait(),
    "aio::Aio::flush" => |c| c.image.aio().flush().timeout(SHORT).wait(),
    "aio::Aio::read" => |c| c.image.aio().read(0, 4096).timeout(SHORT).wait(),
    "aio::Aio::read_into" => |c| c.image.aio().read_into(0, 4096, BytesMut::zeroed(4096)).timeout(SHORT).wait(),
    "aio::Aio::read_vectored" => |c| c.image.aio().read_vectored(0, vec![BytesMut::zeroed(4096)]).timeout(SHORT).wait(),
    "aio::Aio::write" => |c| c.image.aio().write(0, block()).timeout(SHORT).wait(),
    "aio::Aio::write_same" => |c| c.image.aio().write_same(0, 4096, block()).timeout(SHORT).wait(),
    "aio::Aio::write_vectored" => |c| c.image.aio().write_vectored(0, vec![block()]).timeout(SHORT).wait(),
    "aio::Aio::write_zeroes" => |c| c.image.aio().write_zeroes(0, 4096).timeout(SHORT).wait(),
    "aio::Aio::write_zeroes_thick" => |c| c.image.aio().write_zeroes_thick(0, 4096).timeout(SHORT).wait(),
}
