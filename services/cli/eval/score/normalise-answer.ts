const ASCII_PUNCTUATION = new Set('!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~');
/** As published, which has 》 and lacks 《. */
const CHINESE_PUNCTUATION = new Set(
  '！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.',
);
/** An article that is a whole word; JavaScript's own \b takes é for the end of one. */
const ARTICLE = /(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu;

/** SQuAD's rule: lower case, no ASCII punctuation, no articles, single spaces. */
export function normaliseEnglish(answer: string): string {
  const bare = Array.from(answer.toLowerCase())
    .filter((c) => !ASCII_PUNCTUATION.has(c))
    .join('');
  return bare
    .replace(ARTICLE, ' ')
    .split(/\s+/u)
    .filter((word) => word !== '')
    .join(' ');
}

/** Lower case, without punctuation, Chinese or ASCII, and without white space. */
export function normaliseChinese(answer: string): string {
  return Array.from(answer.toLowerCase())
    .filter((c) => !ASCII_PUNCTUATION.has(c) && !CHINESE_PUNCTUATION.has(c) && !/\s/u.test(c))
    .join('');
}
