//! The opcodes of Python's `pickle` (protocols 2 to 5) that state dicts are written with.

pub const MARK: u8 = b'(';
pub const STOP: u8 = b'.';
pub const POP: u8 = b'0';
pub const POP_MARK: u8 = b'1';
pub const DUP: u8 = b'2';

pub const NONE: u8 = b'N';
pub const NEW_TRUE: u8 = 0x88;
pub const NEW_FALSE: u8 = 0x89;
pub const BIN_INT: u8 = b'J';
pub const BIN_INT1: u8 = b'K';
pub const BIN_INT2: u8 = b'M';
pub const LONG1: u8 = 0x8a;
pub const LONG4: u8 = 0x8b;
pub const BIN_FLOAT: u8 = b'G';
pub const BIN_UNICODE: u8 = b'X';
pub const SHORT_BIN_UNICODE: u8 = 0x8c;
pub const BIN_UNICODE8: u8 = 0x8d;
pub const BIN_STRING: u8 = b'T';
pub const SHORT_BIN_STRING: u8 = b'U';
pub const BIN_BYTES: u8 = b'B';
pub const SHORT_BIN_BYTES: u8 = b'C';
pub const BIN_BYTES8: u8 = 0x8e;
pub const BYTE_ARRAY8: u8 = 0x96;
pub const READ_ONLY_BUFFER: u8 = 0x98;

pub const EMPTY_LIST: u8 = b']';
pub const APPEND: u8 = b'a';
pub const APPENDS: u8 = b'e';
pub const LIST: u8 = b'l';
pub const EMPTY_TUPLE: u8 = b')';
pub const TUPLE: u8 = b't';
pub const TUPLE1: u8 = 0x85;
pub const TUPLE2: u8 = 0x86;
pub const TUPLE3: u8 = 0x87;
pub const EMPTY_DICT: u8 = b'}';
pub const DICT: u8 = b'd';
pub const SET_ITEM: u8 = b's';
pub const SET_ITEMS: u8 = b'u';
pub const EMPTY_SET: u8 = 0x8f;
pub const ADD_ITEMS: u8 = 0x90;
pub const FROZEN_SET: u8 = 0x91;

pub const BIN_GET: u8 = b'h';
pub const LONG_BIN_GET: u8 = b'j';
pub const BIN_PUT: u8 = b'q';
pub const LONG_BIN_PUT: u8 = b'r';
pub const MEMOIZE: u8 = 0x94;

pub const GLOBAL: u8 = b'c';
pub const STACK_GLOBAL: u8 = 0x93;
pub const REDUCE: u8 = b'R';
pub const NEW_OBJ: u8 = 0x81;
pub const NEW_OBJ_EX: u8 = 0x92;
pub const BUILD: u8 = b'b';
pub const BIN_PERS_ID: u8 = b'Q';

pub const PROTO: u8 = 0x80;
pub const FRAME: u8 = 0x95;
