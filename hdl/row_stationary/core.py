from ..core import Core
class RowStationaryCore(Core):
    pass
