package radio

import (
	"errors"
	"fmt"
	"strings"
)

// splitWords splits a command line into words as a shell does: at spaces outside quotes, with '…', "…" and \. Nothing is
// expanded, and what only a shell could do is refused.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote rune // that is open; 0: none
	escaped := false
	for _, r := range line {
		switch {
		case r == 0:
			return nil, errors.New("a zero byte is no part of a command")
		case escaped:
			if quote == '"' && !strings.ContainsRune("\"\\$`\n", r) {
				word.WriteByte('\\')
			}
			if r != '\n' { // a line goes on
				word.WriteRune(r)
				inWord = true
			}
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case strings.ContainsRune("|&;<>()`", r):
			return nil, fmt.Errorf("%c means something to a shell only, and none is run: quote it, or write sh -c '…'", r)
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	switch {
	case quote != 0:
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	case escaped:
		return nil, errors.New(`a \ stands at the end`)
	case inWord:
		words = append(words, word.String())
	}
	return words, nil
}
