package config

import "testing"

// Limits of free space are a share, a size or both; what is neither is refused.
func TestFreeSpace(t *testing.T) {
	load := func(v string) (FreeSpace, error) {
		c, _, err := Load(LoadOptions{Set: []string{"kalda.disk.soft=" + v}})
		if err != nil {
			return FreeSpace{}, err
		}
		return c.Broker().DiskSoft, nil
	}
	for v, want := range map[string]FreeSpace{
		"10%,5GiB": {0.1, 5 << 30}, "5GiB, 10%": {0.1, 5 << 30}, "1.5%": {Share: 0.015}, "100": {Bytes: 100}, "0": {}, "64MiB": {Bytes: 64 << 20},
	} {
		if got, err := load(v); err != nil || got != want {
			t.Errorf("%s: %+v, %v", v, got, err)
		}
	}
	for _, v := range []string{"", "%", "0%", "100%", "10%,20%", "1,2", "-1", "much", "0,10%", "NaN%"} {
		if got, err := load(v); err == nil {
			t.Errorf("%q is taken as %+v", v, got)
		}
	}
	c, _, err := Load(LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b := c.Broker(); b.DiskSoft != (FreeSpace{0.1, 5 << 30}) || b.DiskHard != (FreeSpace{0.03, 1 << 30}) {
		t.Fatalf("defaults %+v, %+v", b.DiskSoft, b.DiskHard)
	}
}
