package config

import (
	"fmt"
	"strconv"
	"strings"
)

// FreeSpace is a limit on free disk space: a share of the volume, a number of bytes, or
// the lesser of both. The zero value is no limit.
type FreeSpace struct {
	// Share is a part of the volume, above 0 and below 1; 0 without one.
	Share float64
	// Bytes is 0 without a number of bytes.
	Bytes int64
}

// parseFreeSpace reads entries such as 10% and 5GiB; 0 alone is no limit.
func parseFreeSpace(entries []string) (FreeSpace, error) {
	var f FreeSpace
	for _, e := range entries {
		if text, ok := strings.CutSuffix(e, "%"); ok {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || !(n > 0 && n < 100) || f.Share != 0 {
				return FreeSpace{}, fmt.Errorf("%q: want one share of the volume, such as 10%%", e)
			}
			f.Share = n / 100
			continue
		}
		n, err := parseNumber(e, Bytes)
		if err != nil {
			return FreeSpace{}, err
		}
		if n < 0 || f.Bytes != 0 || n == 0 && len(entries) > 1 {
			return FreeSpace{}, fmt.Errorf("%q: want one size, such as 5GiB, or 0 alone for no limit", e)
		}
		f.Bytes = n
	}
	return f, nil
}

func checkFreeSpace(text string) error {
	_, err := parseFreeSpace(strings.Split(text, ","))
	return err
}

// FreeSpace returns the limit of a key whose value is one.
func (v Value) FreeSpace() FreeSpace {
	f, _ := parseFreeSpace(v.list) // checked when the value was
	return f
}
