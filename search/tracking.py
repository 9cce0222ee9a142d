class Projection:
    def __init__(self,*a): pass
    def __enter__(self): return self
    def __exit__(self,*a): pass
    def finish(self): pass
