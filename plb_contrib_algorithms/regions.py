"""Where named regions lie: cloud regions, cities, countries and continents.

A cloud region stands for the city its provider names; a country for the middle of
where its people live; all to about ten kilometres, which is finer than any routing
decision. Where two providers use one name, the larger provider's meaning is kept.
"""

from __future__ import annotations

import difflib
from typing import Final

Point = tuple[float, float]
"""Latitude and longitude in degrees, north and east positive."""

# One place per line: its names, then latitude and longitude.
_TABLE: Final = """
us-east-1 us-east4 eastus eastus2 usgovvirginia iad virginia ashburn 39.04 -77.49
us-east-2 us-east5 ohio columbus 39.96 -83.00
us-east1 south-carolina charleston 33.20 -80.01
us-west-1 westus sfo sfo2 sfo3 sjc california san-francisco san-jose 37.57 -122.05
us-west-2 us-west1 oregon portland hil 45.60 -121.18
us-west2 lax los-angeles 34.05 -118.24
us-west3 slc utah salt-lake-city 40.76 -111.89
us-west4 nevada las-vegas 36.17 -115.14
us-central1 iowa council-bluffs 41.26 -95.86
us-south1 dfw dallas 32.78 -96.80
us-gov-east-1 pittsburgh 40.44 -79.99
us-gov-west-1 sea seattle 47.61 -122.33
usgovarizona westus3 phx arizona phoenix 33.45 -112.07
usgovtexas southcentralus texas san-antonio 29.42 -98.49
centralus des-moines 41.59 -93.62
northcentralus ord chi illinois chicago 41.88 -87.63
westcentralus wyoming cheyenne 41.14 -104.82
westus2 washington-state quincy 47.23 -119.85
atl atl1 georgia-us atlanta 33.75 -84.39
bos massachusetts boston 42.36 -71.06
den colorado denver 39.74 -104.99
ewr nyc nyc1 nyc2 nyc3 new-york new-jersey 40.71 -74.01
mia florida miami 25.76 -80.19
washington washington-dc 38.91 -77.04
houston 29.76 -95.37
philadelphia 39.95 -75.17
minneapolis 44.98 -93.27
san-diego 32.72 -117.16
honolulu hawaii 21.31 -157.86
anchorage alaska 61.22 -149.90
us usa united-states north-america 39.00 -95.00
ca-central-1 northamerica-northeast1 yul quebec montreal 45.50 -73.57
northamerica-northeast2 canadacentral tor1 yyz ontario toronto 43.65 -79.38
ca-west-1 alberta calgary 51.05 -114.07
canadaeast quebec-city 46.81 -71.21
vancouver british-columbia 49.28 -123.12
ottawa 45.42 -75.70
canada 46.00 -78.00
mx-central-1 northamerica-south1 mexicocentral qro queretaro 20.59 -100.39
mexico mexico-city 19.43 -99.13
costa-rica san-jose-cr 9.93 -84.08
panama 8.98 -79.52
cuba havana 23.11 -82.37
central-america guatemala 14.63 -90.51
puerto-rico san-juan 18.47 -66.11
sa-east-1 southamerica-east1 brazilsouth gru sao-paulo -23.55 -46.63
brazilsoutheast gig rio-de-janeiro -22.91 -43.17
brazil brasilia south-america -15.79 -47.88
southamerica-west1 chilecentral scl chile santiago -33.45 -70.67
eze argentina buenos-aires -34.60 -58.38
bog colombia bogota 4.71 -74.07
lim peru lima -12.05 -77.04
ecuador quito -0.18 -78.47
uruguay montevideo -34.90 -56.16
venezuela caracas 10.48 -66.90
bolivia la-paz -16.50 -68.15
paraguay asuncion -25.26 -57.58
eu-west-1 northeurope ireland dublin 53.35 -6.26
eu-west-2 europe-west2 uksouth lhr lon1 england london 51.51 -0.13
ukwest wales cardiff 51.48 -3.18
man manchester 53.48 -2.24
scotland edinburgh 55.95 -3.19
cambridge 52.21 0.12
uk gb united-kingdom great-britain 52.50 -1.50
eu-west-3 europe-west9 francecentral cdg fr-par paris 48.86 2.35
francesouth marseille 43.30 5.37
gra gravelines 50.99 2.13
sbg strasbourg 48.57 7.75
rbx roubaix 50.69 3.17
lyon 45.76 4.84
france 46.60 2.40
eu-central-1 europe-west3 germanywestcentral fra fra1 frankfurt 50.11 8.68
germanynorth berlin 52.52 13.40
europe-west10 brandenburg 52.41 12.53
fsn1 falkenstein 50.48 12.37
nbg1 nuremberg 49.45 11.08
munich 48.14 11.58
hamburg 53.55 9.99
heidelberg 49.40 8.67
germany 51.00 10.00
eu-central-2 europe-west6 switzerlandnorth zrh zurich 47.37 8.54
switzerlandwest geneva 46.20 6.14
switzerland bern 46.95 7.45
europe-west4 eemshaven groningen 53.44 6.84
westeurope ams ams2 ams3 nl-ams netherlands amsterdam 52.37 4.90
europe-west1 saint-ghislain 50.45 3.82
belgiumcentral belgium brussels 50.85 4.35
luxembourg 49.61 6.13
eu-north-1 swedencentral arn sweden stockholm 59.33 18.07
europe-north2 uppsala 59.86 17.64
europe-north1 hamina 60.57 27.20
hel1 finland helsinki 60.17 24.94
norwayeast osl norway oslo 59.91 10.75
norwaywest stavanger 58.97 5.73
denmarkeast cph denmark copenhagen 55.68 12.57
iceland reykjavik 64.15 -21.94
estonia tallinn 59.44 24.75
latvia riga 56.95 24.11
lithuania vilnius 54.69 25.28
eu-south-1 europe-west8 italynorth mxp milan 45.46 9.19
europe-west12 turin 45.07 7.69
italy rome 41.90 12.50
eu-south-2 aragon zaragoza 41.65 -0.89
europe-southwest1 spaincentral mad spain madrid 40.42 -3.70
barcelona 41.39 2.17
portugal lis lisbon 38.72 -9.14
europe-central2 polandcentral waw pl-waw poland warsaw 52.23 21.01
austriaeast austria vienna 48.21 16.37
czechia czech-republic prague 50.08 14.44
slovakia bratislava 48.15 17.11
hungary budapest 47.50 19.04
slovenia ljubljana 46.05 14.51
croatia zagreb 45.81 15.98
serbia belgrade 44.79 20.45
otp romania bucharest 44.43 26.10
bulgaria sofia 42.70 23.32
greececentral greece athens 37.98 23.73
cyprus nicosia 35.19 33.38
malta valletta 35.90 14.51
ukraine kyiv 50.45 30.52
moldova chisinau 47.01 28.86
belarus minsk 53.90 27.57
russia moscow 55.76 37.62
europe eu 50.00 10.00
turkey istanbul 41.01 28.98
ankara 39.93 32.86
georgia tbilisi 41.72 44.79
armenia yerevan 40.18 44.51
azerbaijan baku 40.41 49.87
kazakhstan almaty 43.24 76.89
uzbekistan tashkent 41.30 69.24
il-central-1 me-west1 israelcentral israel tel-aviv 32.09 34.78
jordan amman 31.95 35.93
lebanon beirut 33.89 35.50
iraq baghdad 33.31 44.37
iran tehran 35.69 51.39
me-south-1 bahrain manama 26.23 50.59
me-central-1 uaenorth dxb united-arab-emirates uae dubai 25.20 55.27
uaecentral abu-dhabi 24.45 54.38
me-central1 qatarcentral qatar doha 25.29 51.53
me-central2 dammam 26.42 50.09
saudiarabiacentral saudi-arabia riyadh middle-east 24.71 46.68
kuwait 29.38 47.99
oman muscat 23.59 58.41
af-south-1 southafricawest cape-town -33.92 18.42
africa-south1 southafricanorth jnb south-africa johannesburg -26.20 28.05
egypt cairo 30.04 31.24
morocco casablanca 33.57 -7.59
algeria algiers 36.75 3.06
tunisia tunis 36.81 10.18
nigeria lagos 6.52 3.38
ghana accra 5.60 -0.19
senegal dakar 14.72 -17.47
ivory-coast abidjan 5.36 -4.01
kenya nairobi -1.29 36.82
ethiopia addis-ababa 9.03 38.74
uganda kampala 0.35 32.58
tanzania dar-es-salaam -6.79 39.21
angola luanda -8.84 13.23
congo kinshasa -4.44 15.27
zimbabwe harare -17.83 31.05
africa 2.00 20.00
ap-south-1 asia-south1 westindia bom mumbai 19.08 72.88
ap-south-2 southcentralindia hyderabad 17.39 78.49
asia-south2 del delhi new-delhi 28.61 77.21
centralindia pune 18.52 73.86
southindia maa chennai 13.08 80.27
blr1 bangalore bengaluru 12.97 77.59
kolkata 22.57 88.36
india 21.00 78.00
pakistan karachi 24.86 67.01
lahore 31.52 74.36
bangladesh dhaka 23.81 90.41
sri-lanka colombo 6.93 79.86
nepal kathmandu 27.72 85.32
ap-southeast-1 asia-southeast1 southeastasia sin sgp1 singapore 1.35 103.82
ap-southeast-3 asia-southeast2 indonesiacentral indonesia jakarta -6.21 106.85
ap-southeast-5 malaysiawest malaysia kuala-lumpur 3.14 101.69
ap-southeast-7 asia-southeast3 bkk thailand bangkok 13.76 100.50
vietnam hanoi 21.03 105.85
ho-chi-minh-city 10.82 106.63
philippines manila 14.60 120.98
cambodia phnom-penh 11.56 104.92
myanmar yangon 16.87 96.20
ap-east-1 asia-east2 eastasia hkg hong-kong 22.32 114.17
ap-east-2 taiwannorth taiwan taipei 25.03 121.57
asia-east1 changhua 24.05 120.52
cn-north-1 chinanorth china beijing 39.90 116.41
cn-northwest-1 ningxia zhongwei 37.51 105.19
cn-east-1 chinaeast shanghai 31.23 121.47
cn-south-1 guangzhou shenzhen 22.54 114.06
hangzhou 30.27 120.16
chengdu 30.57 104.07
ap-northeast-1 asia-northeast1 japaneast nrt japan tokyo 35.68 139.69
ap-northeast-3 asia-northeast2 japanwest kix osaka 34.69 135.50
ap-northeast-2 asia-northeast3 koreacentral icn south-korea korea seoul 37.57 126.98
koreasouth busan 35.18 129.08
mongolia ulaanbaatar 47.89 106.91
asia 30.00 100.00
ap-southeast-2 australia-southeast1 australiaeast syd syd1 sydney -33.87 151.21
ap-southeast-4 australia-southeast2 australiasoutheast mel melbourne -37.81 144.96
australiacentral australiacentral2 canberra -35.28 149.13
brisbane -27.47 153.03
per perth -31.95 115.86
adelaide -34.93 138.60
australia oceania -33.00 147.00
ap-southeast-6 newzealandnorth akl new-zealand auckland -36.85 174.76
wellington -41.29 174.78
fiji suva -18.14 178.44
"""


def _parse(table: str) -> dict[str, Point]:
    regions: dict[str, Point] = {}
    for line in table.strip().split("\n"):
        *names, latitude, longitude = line.split()
        point = (float(latitude), float(longitude))
        regions.update(dict.fromkeys(names, point))
    return regions


REGIONS: Final[dict[str, Point]] = _parse(_TABLE)
"""Name → point; read only."""


def _plain(name: str) -> str:
    return "-".join(name.lower().replace("_", " ").split())


def locate(name: str) -> Point | None:
    """Return where a region lies, or None; case, spaces and `_` do not matter."""
    return REGIONS.get(name) or REGIONS.get(_plain(name))


def nearest_name(name: str) -> str:
    """Return the known name that is spelt most like `name`."""
    wanted = _plain(name[:64])
    return difflib.get_close_matches(wanted, REGIONS, n=1, cutoff=0.0)[0]
