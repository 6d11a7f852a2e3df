"""Writes tokenizers_hf.json and sentencepiece.json: small tokenizers of every kind, and what the Python libraries make
of texts with them. Run in this folder: python tokenizers_golden.py (tokenizers 0.23.2, sentencepiece 0.2.2; spm_train on
the path)."""
import base64, json, subprocess, tempfile, os
import sentencepiece, tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders as D, models as M, normalizers as N, pre_tokenizers as P, processors as R, trainers as T

CORPUS = [
    "The cat of the neighbour sleeps on the roof; the dog, who is old, sleeps under the tree.",
    "Le chat de la voisine dort sur le toit, et le chien de la voisine dort sous l'arbre.",
    "Élève, été, où, œuvre, naïve, façade : 12 345 habitants en 2024 ! Don't they know? It's 3.14.",
    "the theme there then these thesis; le la les lui leur; ing ation ment; on un une",
]
TEXTS = [
    "", " ", "the cat sleeps", "  The dog,  who is old! ", "a <extra_id_0> b<extra_id_1> the </s>",
    "L'élève où? e\u0301 \ufb01 \u00bd\u2460", "a\tb\r\nc\u00a0d\u2028e", "12345 don't", "\U0001f600 \u4e2d\u6587abc \u0434\u0430 \u200b",
    "\u2581x \u2581 y\u2581", "thethethe theme", "O'Neill (ab_c-d) \u00abmot\u00bb\u2026",
]
SPECIAL = ["<pad>", "</s>", "<unk>", "<extra_id_0>"]
SIZE = 170

def spm(name, **options):
    with tempfile.TemporaryDirectory() as d:
        open(f"{d}/corpus", "w").write("\n".join(CORPUS * 5) + "\n")
        # rules: source and target code points; ligature, full-width A, no-break space and tab, e with acute in two parts
        open(f"{d}/rules.tsv", "w").write("FB01\t66 69\nFF21\t41\nA0\t20\n9\t20\n65 301\tE9\n200B\t\n2581\t20\nBD\t31 2F 32\n")
        args = [f"--{k}={v}" for k, v in options.items()]
        if "normalization_rule_name" not in options: args.append(f"--normalization_rule_tsv={d}/rules.tsv")
        subprocess.run(["spm_train", f"--input={d}/corpus", f"--model_prefix={d}/m", *args], check=True, capture_output=True)
        path = f"{d}/m.model"
        model = open(path, "rb").read()
        sp = sentencepiece.SentencePieceProcessor(model_file=path)
        lines = [t for t in TEXTS]
        cases = []
        for t in TEXTS:
            ids = sp.encode(t)
            cases.append(dict(text=t, ids=ids, pieces=sp.encode(t, out_type=str), decoded=sp.decode(ids)))
        return dict(name=name, options=options, model=base64.b64encode(model).decode(), cases=cases)

common = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, vocab_size=150, hard_vocab_limit="false", num_threads=1, minloglevel=2)
models = [
    spm("unigram", model_type="unigram", **common),
    spm("unigram bytes suffix", model_type="unigram", byte_fallback="true", treat_whitespace_as_suffix="true", user_defined_symbols="[R],the", **{**common, "vocab_size": 400}),
    spm("bpe", model_type="bpe", user_defined_symbols="[R],voi", **{**common, "vocab_size": 140}),
    spm("bpe bytes", model_type="bpe", byte_fallback="true", remove_extra_whitespaces="false", add_dummy_prefix="false", normalization_rule_name="identity", **{**common, "vocab_size": 400}),
]
json.dump(dict(made_with=f"sentencepiece {sentencepiece.__version__}, spm_train 0.1.97", models=models), open("sentencepiece.json", "w"), ensure_ascii=True, separators=(",", ":"))

def charsmap():
    """Field 2 of field 3 of the first model."""
    data, found = base64.b64decode(models[0]["model"]), {}
    def fields(b):
        i = 0
        def varint():
            nonlocal i
            v = s = 0
            while True:
                c = b[i]; i += 1; v |= (c & 127) << s; s += 7
                if c < 128: return v
        while i < len(b):
            tag = varint()
            if tag & 7 == 0: yield tag >> 3, varint()
            elif tag & 7 == 5: i += 4
            else:
                n = varint(); yield tag >> 3, b[i:i + n]; i += n
    return next(v for f, v in fields(next(v for f, v in fields(data) if f == 3)) if f == 2)

def columns(e):
    return dict(ids=e.ids, tokens=e.tokens, offsets=e.offsets, words=e.word_ids, types=e.type_ids, special=e.special_tokens_mask)

kinds = []
def kind(name, model, trainer, normalizer=None, pre=None, decoder=None, post=None, plain=False):
    t = Tokenizer(model)
    if normalizer: t.normalizer = normalizer
    if pre: t.pre_tokenizer = pre
    if decoder: t.decoder = decoder
    t.train_from_iterator(CORPUS * 2, trainer)
    if not plain:
        t.add_special_tokens([AddedToken("<extra_id_0>", lstrip=True, rstrip=True)])
        t.add_tokens([AddedToken("old", single_word=True, normalized=False), AddedToken("Où", normalized=True)])
    if post: t.post_processor = post(t)
    cases = []
    for text in TEXTS:
        e = t.encode(text)
        cases.append(dict(text=text, **columns(e), decoded=t.decode(e.ids, skip_special_tokens=False)))
    pair = t.encode("the cat", "le chat de la voisine")
    kinds.append(dict(name=name, file=json.loads(t.to_str()), cases=cases, pair=columns(pair)))

bpe = lambda **k: T.BpeTrainer(vocab_size=SIZE, special_tokens=SPECIAL, show_progress=False, **k)
byte_bpe = lambda: T.BpeTrainer(vocab_size=330, special_tokens=SPECIAL, show_progress=False, initial_alphabet=P.ByteLevel.alphabet())
unigram = lambda: T.UnigramTrainer(vocab_size=SIZE, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
pieces = lambda: T.WordPieceTrainer(vocab_size=SIZE, special_tokens=SPECIAL, show_progress=False)
words = lambda: T.WordLevelTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False)
template = lambda t: R.TemplateProcessing(single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 1)])
quads = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
kind("gpt2", M.BPE(), byte_bpe(), None, P.ByteLevel(add_prefix_space=False), D.ByteLevel(), lambda t: R.ByteLevel(trim_offsets=True), plain=True)
kind("roberta", M.BPE(unk_token="<unk>"), byte_bpe(), None, P.ByteLevel(add_prefix_space=True), D.ByteLevel(), lambda t: R.RobertaProcessing(("</s>", 1), ("<pad>", 0)))
kind("qwen", M.BPE(), byte_bpe(), N.NFC(), P.Sequence([P.Split(quads, "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), D.ByteLevel())
kind("llama", M.BPE(unk_token="<unk>", fuse_unk=True), bpe(), N.Sequence([N.Prepend("\u2581"), N.Replace(" ", "\u2581")]), None, D.Sequence([D.Replace("\u2581", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)]), template, plain=True)
kind("words of bpe", M.BPE(unk_token="<unk>"), bpe(limit_alphabet=30), N.Sequence([N.NFKD(), N.StripAccents(), N.Lowercase()]), P.Metaspace(prepend_scheme="first"), D.Metaspace(prepend_scheme="first"), template)
kind("suffix", M.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), bpe(end_of_word_suffix="</w>"), N.BertNormalizer(), P.BertPreTokenizer(), D.BPEDecoder("</w>"), lambda t: R.BertProcessing(("</s>", 1), ("<pad>", 0)))
kind("unigram", M.Unigram(), unigram(), N.Sequence([N.Nmt(), N.NFKC(), N.Replace(Regex(" {2,}"), " ")]), P.Metaspace(), D.Metaspace(), template)
kind("t5", M.Unigram(), unigram(), N.Precompiled(charsmap()), P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), D.Metaspace(), template, plain=True)
kind("mt5", M.Unigram(), unigram(), N.Sequence([N.Precompiled(charsmap()), N.Strip(left=False, right=True), N.Replace(Regex(" {2,}"), "\u2581")]), P.Metaspace(), D.Metaspace(), template, plain=True)
kind("bert", M.WordPiece(unk_token="<unk>"), pieces(), N.BertNormalizer(lowercase=True), P.BertPreTokenizer(), D.WordPiece(), template)
kind("word level", M.WordLevel(unk_token="<unk>"), words(), N.NFD(), P.Sequence([P.Whitespace(), P.Digits(True)]), None, template)
kind("punctuation", M.WordLevel(unk_token="<unk>"), words(), N.Strip(), P.Sequence([P.WhitespaceSplit(), P.Punctuation("merged_with_previous")]), D.CTC("<pad>"))
kind("split", M.WordLevel(unk_token="<unk>"), words(), None, P.Sequence([P.Split(Regex(r"\p{L}+"), "removed", invert=True), P.Split("e", "merged_with_next")]))
kind("scripts", M.WordLevel(unk_token="<unk>"), words(), None, P.Sequence([P.UnicodeScripts(), P.Punctuation("contiguous"), P.CharDelimiterSplit(" ")]))
json.dump(dict(made_with=f"tokenizers {tokenizers.__version__}", kinds=kinds), open("tokenizers_hf.json", "w"), ensure_ascii=True, separators=(",", ":"))
