NEEDS: dict[str, str] = {}
