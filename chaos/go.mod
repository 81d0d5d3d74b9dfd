module github.com/kalda-io/kalda/chaos

go 1.26.0

replace github.com/kalda-io/kalda => ../

replace github.com/kalda-io/kalda/interop => ../interop
