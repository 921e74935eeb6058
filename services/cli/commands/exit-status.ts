/** Exit status of a program that SIGINT ended. */
export const EXIT_INTERRUPTED = 130;
