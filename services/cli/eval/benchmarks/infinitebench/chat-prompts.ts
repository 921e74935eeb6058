/** As published for GPT-4: the one user message of a chat. */
export const CHAT_PROMPTS = {
  passkey:
    'There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there.\n\n{context}\n\n{input}',
  number_string:
    'There is an important info hidden inside a lot of irrelevant text. Find it. I will quiz you about the important information there.\n\n{context}\n\n{input}',
  kv_retrieval:
    'Extract the value corresponding to the specified key in the JSON object below.\n\n{context}\n\n{input}',
  longbook_sum_eng: 'Summarize the following book.\n\n{context}',
  longbook_choice_eng:
    "Read the book and answer the question.\n\n{context}\n\nQuestion: {question}\n\nOnly one of the following options is correct, tell me the answer using one single letter (A, B, C, or D). Don't say anything else.\nA. {OPTION_A}\nB. {OPTION_B}\nC. {OPTION_C}\nD. {OPTION_D}",
  longbook_qa_eng:
    'Read the book below and answer a question.\n\n{context}\n\nQuestion: {question}\n\nBe very concise.',
  longbook_qa_chn:
    '请根据以下书籍回答我的问题。\n\n{context}\n\n问题：{question}\n请尽量简短地回答。',
  longdialogue_qa_eng:
    'Below is a dialogue script where one random occurrence of a character name is replaced with "$$MASK$$", and you should try to guess who that character is.\n\nThe dialogue:\n\n---\n\n{context}\n\n---\n\nEnd of dialogue.\n\nWhich character is most likely "$$MASK$$"? Just say the name used by the scriptwriter (before the colon marks) of one single character and nothing else.',
  math_find: '{prefix}\n\n{context}\n\n{input}',
  math_calc: 'Compute the intermediate values in the following long expression.\n\n{context}',
  code_run:
    'Following is a set of Python functions. There is a function called named {func}.\n\n{context}\n\nPlease give me the exact number of the return value of {func_call}. Be concise. Your response must end with the final returned value.',
  code_debug:
    'There is ONLY ONE function in the large project that is deliberately made to include an obvious error. Please find the function that contains the most obvious errors. I will give you four options to narrow your scope. You can inspect the options and think. Eventually, tell me the answer using one single letter (A, B, C, or D).\n\n{context}\n\nWhich funtion has deliberate error?\nA. {OPTION_A}\nB. {OPTION_B}\nC. {OPTION_C}\nD. {OPTION_D}\n\nYou should first find the functions in the options. Repeat their content, inspect through code, and at last give me your answer for the function that has the deliberate and obvious error in A, B, C, or D.',
} as const;
