/** Where the script of a text changes, as the pre-tokenizer UnicodeScripts sees it: kana count as Han. */

/** Scripts of Unicode by the names that JavaScript's expressions know; the engine says which exist. */
const NAMES =
  'Common Inherited Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Coptic Cuneiform Cypriot Cyrillic Deseret Devanagari Duployan Egyptian_Hieroglyphs Elbasan Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gurmukhi Han Hangul Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kayah_Li Kharoshthi Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Malayalam Mandaic Manichaean Marchen Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean New_Tai_Lue Newa Nko Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_South_Arabian Old_Turkic Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sora_Sompeng Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Ugaritic Vai Warang_Citi Yi'.split(
    ' ',
  );
let tests: [string, RegExp][] | undefined;
const known = new Map<string, string>();

/** A script's name; 'Any' for the space, which belongs to what stands before it. */
function scriptOf(character: string): string {
  if (character === ' ') return 'Any';
  if (character === '\u30fc') return 'Han';
  let script = known.get(character);
  if (script === undefined) {
    tests ??= NAMES.map((name) => [name, new RegExp(`\\p{Script=${name}}`, 'u')]);
    const name = tests.find(([, test]) => test.test(character))?.[0] ?? 'Any';
    script = name === 'Hiragana' || name === 'Katakana' ? 'Han' : name;
    known.set(character, script);
  }
  return script;
}

/** Pairs start, end. What stands before the first cut is left out, as the original does. */
export function scriptCuts(text: string): [number, number][] {
  const starts: number[] = [];
  let last: string | undefined;
  let offset = 0;
  for (const c of text) {
    const script = scriptOf(c);
    if (script !== 'Any' && last !== 'Any' && last !== script) starts.push(offset);
    if (script !== 'Any') last = script;
    offset += c.length;
  }
  return starts.map((start, i) => [start, starts[i + 1] ?? text.length]);
}
