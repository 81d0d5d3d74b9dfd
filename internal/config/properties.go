package config

import (
	"fmt"
	"strconv"
	"strings"
)

// readProperties reads a Java properties file. It keeps the place of every key, which is
// why the reader is our own: comments (# and !), continuation lines, the separators '=',
// ':' and blank, and the escapes \t \n \r \f and \uXXXX. Text is UTF-8. Errors are *Error.
func readProperties(file string, data []byte) ([]setting, []error) {
	var out []setting
	var errs []error
	lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSuffix(lines[i], "\r")
		text := strings.TrimLeft(line, " \t\f")
		if text == "" || text[0] == '#' || text[0] == '!' {
			continue
		}
		at := Source{Kind: FromFile, File: file, Line: i + 1, Column: len(line) - len(text) + 1}
		for continued(text) && i+1 < len(lines) {
			i++
			text = text[:len(text)-1] + strings.TrimLeft(strings.TrimSuffix(lines[i], "\r"), " \t\f")
		}
		if continued(text) {
			text = text[:len(text)-1]
		}
		k, v := splitProperty(text)
		key, err1 := unescape(k)
		value, err2 := unescape(v)
		for _, err := range []error{err1, err2} {
			if err != nil {
				errs = append(errs, &Error{At: at, Text: err.Error()})
			}
		}
		if err1 == nil && err2 == nil {
			out = append(out, setting{key, value, at})
		}
	}
	return out, errs
}

// continued says whether a line ends in an odd number of backslashes.
func continued(s string) bool {
	n := len(s) - len(strings.TrimRight(s, `\`))
	return n%2 == 1
}

// splitProperty cuts a line at the first separator that is not escaped.
func splitProperty(s string) (key, value string) {
	end := len(s)
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			continue
		}
		if strings.IndexByte("=: \t\f", s[i]) >= 0 {
			end = i
			break
		}
	}
	key, rest := s[:end], strings.TrimLeft(s[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	return key, rest
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			if i+5 > len(s) {
				return "", fmt.Errorf(`the escape %q is not \uXXXX`, s[i-1:])
			}
			n, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
			if err != nil {
				return "", fmt.Errorf(`the escape %q is not \uXXXX`, s[i-1:i+5])
			}
			b.WriteRune(rune(n))
			i += 4
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}
