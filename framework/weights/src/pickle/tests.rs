use super::limits::MAX_VALUES;
use super::*;

fn fault(bytes: &[u8]) -> Fault {
    load(bytes).unwrap_err().fault
}

fn value(bytes: &[u8]) -> Value {
    load(bytes).unwrap().value
}

#[test]
fn plain_values_of_protocol_2_are_read() {
    // pickle.dumps({'a': [1, -2, 70000], 'b': (None, True, 0.5)}, 2)
    let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffJp\x11\x01\x00eX\x01\x00\x00\x00bq\
        \x03N\x88G?\xe0\x00\x00\x00\x00\x00\x00\x87q\x04u.";
    assert_eq!(value(bytes).to_json(), serde_json::json!({"a": [1, -2, 70000], "b": [null, true, 0.5]}));
}

#[test]
fn plain_values_of_protocol_4_are_read() {
    // pickle.dumps({'a': ('x', 'x')}, 4)
    let bytes = b"\x80\x04\x95\x11\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94\x8c\x01x\x94h\x02\x86\x94s.";
    assert_eq!(value(bytes).to_json(), serde_json::json!({"a": ["x", "x"]}));
}

#[test]
fn long_integers_keep_their_sign() {
    assert_eq!(value(b"\x80\x02\x8a\x01\xff."), Value::Int(-1));
    assert_eq!(value(b"\x80\x02\x8a\x00."), Value::Int(0));
    assert_eq!(value(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."), Value::Int(0x1950_a86a_20f9_469c_fc6c));
    assert_eq!(value(b"\x80\x02\x8a\x1100000000000000000.").kind(), "builtins.int");
}

#[test]
fn what_runs_code_is_refused_by_name_however_it_is_spelled() {
    let named = |name: &str| Fault::Global { name: name.to_owned() };
    assert_eq!(fault(b"\x80\x02cos\nsystem\n."), named("os.system"));
    assert_eq!(fault(b"\x80\x04\x8c\x05posix\x8c\x06system\x93."), named("posix.system"));
    assert_eq!(fault(b"\x80\x02cbuiltins\neval\n."), named("builtins.eval"));
    // INST, OBJ, EXT1 and PERSID also import or call.
    for opcode in [b'i', b'o', 0x82, b'P'] {
        assert_eq!(fault(&[0x80, 2, opcode]), Fault::Opcode(opcode));
    }
}

#[test]
fn what_other_globals_make_is_an_object_of_their_name() {
    for program in [
        &b"\x80\x02ctorch\nload\n."[..],
        // torch.load(1), torch.load.__new__(torch.load), then with keywords, attributes and items.
        b"\x80\x02ctorch\nload\nK\x01\x85R.",
        b"\x80\x02ctorch\nload\n)\x81.",
        b"\x80\x02ctorch\nload\n)}\x92.",
        b"\x80\x02ctorch\nload\n)R}b.",
        b"\x80\x02ctorch\nload\n)RK\x01a.",
    ] {
        assert_eq!(value(program), Value::Object { class: "torch.load".to_owned(), entries: Vec::new() });
    }
    assert_eq!(
        value(b"\x80\x02ccollections\nOrderedDict.__init__\n.").kind(),
        "collections.OrderedDict.__init__"
    );
    // A mapping has its entries.
    let mapping = value(b"\x80\x02ca\nb\n)RK\x01K\x02s.");
    assert_eq!(mapping.entries(), Some(&vec![(Value::Int(1), Value::Int(2))]));
}

#[test]
fn an_ordered_dict_of_pairs_and_bytes_of_python_2_are_read() {
    // OrderedDict([['a', 1]])
    let dict = value(b"\x80\x02ccollections\nOrderedDict\n]](U\x01aK\x01ea\x85R.");
    assert_eq!(dict, Value::Dict(vec![(Value::Str("a".to_owned()), Value::Int(1))]));
    assert_eq!(value(b"\x80\x02U\x02\xff\x00.").kind(), "bytes");
}

#[test]
fn values_cannot_be_called() {
    assert!(matches!(fault(b"\x80\x02X\x02\x00\x00\x00os)R."), Fault::Kind { .. }));
    assert!(matches!(fault(b"\x80\x02ctorch\nFloatStorage\n)R."), Fault::Call { .. }));
    assert!(matches!(fault(b"\x80\x02ccollections\nOrderedDict\n(K\x01tR."), Fault::Call { .. }));
}

#[test]
fn stack_and_memo_errors_are_errors() {
    for bytes in
        [&b"\x80\x02."[..], b"\x80\x02s.", b"\x80\x020.", b"\x80\x02(0.", b"\x80\x02u.", b"\x80\x02}(K\x01u."]
    {
        assert_eq!(fault(bytes), Fault::Underflow, "{bytes:?}");
    }
    assert_eq!(fault(b"\x80\x02h\x07."), Fault::Memo(7));
    assert_eq!(fault(b"\x80\x02X\xff\xff\xff\x7fabc"), Fault::Truncated);
    assert_eq!(fault(b""), Fault::Truncated);
}

#[test]
fn a_list_that_contains_itself_is_refused() {
    assert!(matches!(fault(b"\x80\x02]q\x00h\x00a."), Fault::Limit { what: "nested containers", .. }));
}

#[test]
fn a_small_pickle_that_stands_for_an_enormous_tree_is_refused() {
    let mut bytes = b"\x80\x02]q\x00".to_vec();
    for level in 0..40 {
        bytes.extend([b'h', level, b'h', level, opcode::TUPLE2, b'q', level + 1]);
    }
    bytes.push(b'.');
    assert!(matches!(fault(&bytes), Fault::Limit { what: "values", .. }));
}

#[test]
fn copies_that_calls_make_are_bounded() {
    // _codecs.encode("aaa..", "latin1"), and OrderedDict([[1, 2], ..]), again and again.
    let text = [b"X\x00\x10\x00\x00", &[b'a'; 4096][..]].concat();
    let encoded =
        [b"\x80\x02c_codecs\nencode\nq\x00", &text[..], b"X\x06\x00\x00\x00latin1\x86q\x01"].concat();
    let pairs = b"(K\x01K\x02l".repeat(1000);
    let listed = [b"\x80\x02ccollections\nOrderedDict\nq\x00(", &pairs[..], b"l\x85q\x01"].concat();
    for start in [encoded, listed] {
        let program = |calls: usize| [&start[..], &b"h\x00h\x01R".repeat(calls), b"."].concat();
        assert!(load(&program(1)).is_ok());
        assert_eq!(fault(&program(1000)), Fault::Expansion);
    }
}

#[test]
fn endless_marks_and_copies_are_refused() {
    assert!(matches!(fault(&vec![b'('; 100_000]), Fault::Limit { what: "nested containers", .. }));
    let mut copies = vec![opcode::DUP; 2 * MAX_VALUES];
    copies[0] = opcode::NONE;
    assert!(matches!(fault(&copies), Fault::Limit { what: "values on the stack", .. }));
}

#[test]
fn negative_and_unequal_sizes_are_refused() {
    let tensor = |shape: &[u8], strides: &[u8]| {
        let mut bytes =
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n\
            X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00"
                .to_vec();
        bytes.extend_from_slice(shape);
        bytes.extend_from_slice(strides);
        bytes.extend_from_slice(b"\x89NtR.");
        load(&bytes)
    };
    assert!(tensor(b"K\x04\x85", b"K\x01\x85").is_ok());
    assert!(matches!(tensor(b"K\x04\x85", b")").unwrap_err().fault, Fault::Call { .. }));
    assert!(matches!(tensor(b"J\xff\xff\xff\xff\x85", b"K\x01\x85").unwrap_err().fault, Fault::Kind { .. }));
}
