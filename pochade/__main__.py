"""`python -m pochade` is the command `pochade`."""

from pochade.cli.main import main

raise SystemExit(main())
